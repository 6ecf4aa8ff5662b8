// What kernels may use besides the language, for a GPU: all inline PTX of the project is here. emulator/prelude.h holds the same
// functions as C++; whoever adds one here adds it there and to tests/test_cuda_prelude.py.
#define DEVICE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
// So many turns of a loop as one: for long bodies, which would not fit the instruction cache.
#define UNROLL_BY(count) PRAGMA(unroll count)
// Every kernel's shared memory is what its launch asks for, under a name of its own choice.
#define SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]

DEVICE float bits_to_float(uint32 bits) { return __uint_as_float(bits); }
DEVICE uint32 float_to_bits(float x) { return __float_as_uint(x); }

// Conversions round to nearest even.
DEVICE float widen(float16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
DEVICE float16 narrow_to_float16(float x) { float16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
DEVICE float16 narrow_to_float16(double x) { float16 y; asm("cvt.rn.f16.f64 %0, %1;" : "=h"(y.bits) : "d"(x)); return y; }
// What tensor cores make of a float that they take as TF32, but rounded instead of cut off.
DEVICE float round_to_tf32(float x) {
#if __CUDA_ARCH__ >= 800
  uint32 y; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x)); return bits_to_float(y);
#else
  return bits_to_float((float_to_bits(x) + 0x1000u) & 0xFFFFE000u);
#endif
}

// Two floats rounded to bfloat16 in one word, the first in its lower half.
DEVICE uint32 pack_bfloat16(uint32 low, uint32 high) {
#if __CUDA_ARCH__ >= 800
  uint32 y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(bits_to_float(high)), "f"(bits_to_float(low))); return y;
#else
  return ((low + 0x7FFFu + (low >> 16 & 1u)) >> 16) | ((high + 0x7FFFu + (high >> 16 & 1u)) & 0xFFFF0000u);
#endif
}

// All 32 lanes of a warp take part.
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE int shuffle_xor(int x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE double shuffle_xor(double x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE int64 shuffle_xor(int64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE uint64 shuffle_xor(uint64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }

// What other blocks of the same launch have written: past the first-level cache.
DEVICE float load_shared_by_blocks(const float* from) {
  float x; asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory"); return x;
}
DEVICE float4 load_shared_by_blocks(const float4* from) {
  float4 x;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "l"(from) : "memory");
  return x;
}

DEVICE uint32 shared_address(const void* pointer) { return (uint32)__cvta_generic_to_shared(pointer); }

// Copies of 16, or of 4, aligned bytes to shared memory that may go on until they are waited for; zeros where not `inside`, and
// then nothing is read.
DEVICE void cp_async16(void* to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  int size = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(size) : "memory");
#else
  uint4 x = make_uint4(0, 0, 0, 0);
  if (inside) x = *(const uint4*)from;
  *(uint4*)to = x;
#endif
}
DEVICE void cp_async4(void* to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  int size = inside ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(size) : "memory");
#else
  *(uint32*)to = inside ? *(const uint32*)from : 0u;
#endif
}
// Closes a group of this thread's copies.
DEVICE void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `pending` groups of this thread are still going on.
template <int pending> DEVICE void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements: lane 8i+j gives the address of row j of matrix i; lane l gets elements 2(l%4), 2(l%4)+1 of
// row l/4 of each.
DEVICE void ldmatrix_x4(uint32* to, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

// c (16x8, float) += a (16xk) * b (kx8), with the fragments of PTX's mma: k is 16 for 16-bit elements and 8 for TF32.
#if __CUDA_ARCH__ >= 800
#define MMA(name, shape, type)                                                                                            \
  DEVICE void name(float* c, const uint32* a, const uint32* b) {                                                          \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type                                                  \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                     \
  }
MMA(mma_f16, "m16n8k16", "f16")
MMA(mma_bf16, "m16n8k16", "bf16")
MMA(mma_tf32, "m16n8k8", "tf32")
#else
DEVICE void mma_f16_half(float* c, uint32 a0, uint32 a1, uint32 b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b));
}
DEVICE void mma_f16(float* c, const uint32* a, const uint32* b) {
  mma_f16_half(c, a[0], a[1], b[0]);
  mma_f16_half(c, a[2], a[3], b[1]);
}
#endif
