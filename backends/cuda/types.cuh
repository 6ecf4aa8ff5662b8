// The names of element types in kernels and in both preludes.
typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef int int32;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;
struct float16 { uint16 bits; };
struct bfloat16 { uint16 bits; };
