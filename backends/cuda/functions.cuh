// What both preludes have in common: conversions, parts of TF32, and the pointwise functions that are no operator and no
// function of the C library. Nothing here is known to either machine alone.

DEVICE float widen(float x) { return x; }
DEVICE float widen(bfloat16 x) { return bits_to_float((uint32)x.bits << 16); }
// Rounds to nearest even; NaN stays NaN.
DEVICE bfloat16 narrow_to_bfloat16(float x) {
  uint32 bits = float_to_bits(x);
  uint32 rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  return bfloat16{(uint16)((x != x ? bits | 0x400000u : rounded) >> 16)};
}
template <class T> struct Narrow;
template <> struct Narrow<float> { DEVICE float of(float x) { return x; } };
template <> struct Narrow<float16> { DEVICE float16 of(float x) { return narrow_to_float16(x); } };
template <> struct Narrow<bfloat16> { DEVICE bfloat16 of(float x) { return narrow_to_bfloat16(x); } };
// A float as an element of type T: narrow<float16>(x).
template <class T> DEVICE T narrow(float x) { return Narrow<T>::of(x); }

// N elements that one instruction moves.
template <class T, int N> struct __align__(sizeof(T) * N) Pack { T at[N]; };

// A float as the sum of a TF32 number, which replaces it, and a rest; both as bits.
DEVICE void split_tf32(uint32* x, uint32* rest) {
  uint32 high = *x & 0xFFFFE000u;
  *rest = float_to_bits(bits_to_float(*x) - bits_to_float(high));
  *x = high;
}

// Integers wrap around.
template <class T> DEVICE T wrapping_add(T a, T b) { return (T)((uint64)a + (uint64)b); }
template <class T> DEVICE T wrapping_sub(T a, T b) { return (T)((uint64)a - (uint64)b); }
template <class T> DEVICE T wrapping_mul(T a, T b) { return (T)((uint64)a * (uint64)b); }
template <class T> DEVICE T wrapping_neg(T a) { return (T)(0ull - (uint64)a); }

// Division of integers truncates; by zero it gives zero.
template <class T> DEVICE T quotient_of(T a, T b) {
  if (b == 0) return 0;
  return (T)-1 < (T)0 && b == (T)-1 ? wrapping_neg(a) : (T)(a / b);
}
template <class T> DEVICE T rest_of(T a, T b) { return b == 0 || ((T)-1 < (T)0 && b == (T)-1) ? (T)0 : (T)(a % b); }
DEVICE float rest_of(float a, float b) { return fmodf(a, b); }
DEVICE double rest_of(double a, double b) { return fmod(a, b); }
// a - floor(a / b) * b: it has the sign of b.
template <class T> DEVICE T modulo(T a, T b) {
  T rest = rest_of(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? (T)(rest + b) : rest;
}
DEVICE float signed_zero(float of) { return copysignf(0.0f, of); }
DEVICE double signed_zero(double of) { return copysign(0.0, of); }
template <class T> DEVICE T float_modulo(T a, T b) {
  T rest = rest_of(a, b);
  if (rest == 0) return signed_zero(b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

// NaN where either is NaN.
template <class T> DEVICE T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <class T> DEVICE T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <class T> DEVICE T sign_of(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; }
template <class T> DEVICE T size_of(T x) { return x < 0 ? wrapping_neg(x) : x; }

// By squaring; a negative exponent leaves only the powers of 1 and -1.
template <class T> DEVICE T integer_power(T a, T b) {
  if (b < 0 && a != (T)1 && a != (T)-1) return 0;
  T result = 1;
  for (uint64 rest = (uint64)b & (~0ull >> (64 - 8 * sizeof(T))); rest; rest >>= 1) {
    if (rest & 1) result = wrapping_mul(result, a);
    a = wrapping_mul(a, a);
  }
  return result;
}

// Shifts by the width or more leave nothing but the sign.
template <class T> DEVICE T shift_left(T x, T count) { return (uint64)count < 8 * sizeof(T) ? (T)((uint64)x << count) : (T)0; }
template <class T> DEVICE T shift_right(T x, T count) {
  if ((uint64)count < 8 * sizeof(T)) return (T)(x >> count);
  return x < 0 ? (T)-1 : (T)0;
}

// Out of the range of a small integer it wraps around, as NumPy's conversion does.
template <class T, class F> DEVICE T truncate(F x) {
  if (sizeof(T) < 4) return (T)(int32)x;
  return (T)x;
}
