// The second meaning of prelude.cuh: the same names as C++, for a kernel that runs in the emulator.
// No header of the C++ library is included, so that a kernel compiles in a fraction of a second.
#pragma once
#include "machine.h"

static emulator::Machine* machine;

#define DEVICE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 4")
#define UNROLL_BY(count)
#define SHARED_MEMORY(name) unsigned char* const name = machine->shared
#define __global__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define threadIdx (machine->thread)
#define blockIdx (machine->block)
#define blockDim (machine->block_extent)
#define gridDim (machine->grid_extent)
#define __syncthreads() machine->wait_for_block(__LINE__)
#define __syncwarp() machine->wait_for_warp(nothing_together, __LINE__, nullptr)

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
DEVICE float2 make_float2(float x, float y) { return {x, y}; }
DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
DEVICE int2 make_int2(int x, int y) { return {x, y}; }
DEVICE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
DEVICE uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
DEVICE uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#define LIBRARY(name) extern "C" float name##f(float) noexcept; extern "C" double name(double) noexcept;
LIBRARY(exp) LIBRARY(log) LIBRARY(log1p) LIBRARY(expm1) LIBRARY(tanh) LIBRARY(erf) LIBRARY(sin) LIBRARY(cos) LIBRARY(tan) LIBRARY(asin)
LIBRARY(acos) LIBRARY(atan) LIBRARY(sinh) LIBRARY(cosh) LIBRARY(asinh) LIBRARY(acosh) LIBRARY(atanh) LIBRARY(sqrt) LIBRARY(fabs)
LIBRARY(floor) LIBRARY(ceil) LIBRARY(rint)
#define LIBRARY2(name) extern "C" float name##f(float, float) noexcept; extern "C" double name(double, double) noexcept;
LIBRARY2(pow) LIBRARY2(fmod) LIBRARY2(copysign) LIBRARY2(fmax) LIBRARY2(fmin)
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
DEVICE int min(int a, int b) { return a < b ? a : b; }
DEVICE int max(int a, int b) { return a > b ? a : b; }

DEVICE float bits_to_float(uint32 bits) { float x; __builtin_memcpy(&x, &bits, 4); return x; }
DEVICE uint32 float_to_bits(float x) { uint32 bits; __builtin_memcpy(&bits, &x, 4); return bits; }
#define __int_as_float(bits) bits_to_float((uint32)(bits))
#define __uint_as_float(bits) bits_to_float(bits)
#define __float_as_uint(x) float_to_bits(x)

DEVICE float widen(float16 x) { _Float16 y; __builtin_memcpy(&y, &x.bits, 2); return (float)y; }
template <class F> DEVICE float16 to_float16(F x) { _Float16 y = (_Float16)x; float16 z; __builtin_memcpy(&z.bits, &y, 2); return z; }
DEVICE float16 narrow_to_float16(float x) { return to_float16(x); }
DEVICE float16 narrow_to_float16(double x) { return to_float16(x); }
DEVICE float round_to_tf32(float x) { return bits_to_float((float_to_bits(x) + 0x1000u) & 0xFFFFE000u); }
DEVICE uint32 round_to_bfloat16(uint32 bits) {
  uint32 rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  return bits_to_float(bits) != bits_to_float(bits) ? (bits | 0x400000u) >> 16 : rounded;
}
DEVICE uint32 pack_bfloat16(uint32 low, uint32 high) { return round_to_bfloat16(low) | round_to_bfloat16(high) << 16; }

// ---- what a block and a warp do together

static void nothing_together(void**, int) {}
DEVICE void __threadfence() {}
DEVICE void __threadfence_block() {}
template <class T> DEVICE T atomicAdd(T* at, T more) {
  machine->let_others_run();
  T old = *at;
  *at = old + more;
  return old;
}
template <class T> DEVICE T load_shared_by_blocks(const T* from) {
  T x = *(const T*)from;
  machine->let_others_run();
  return x;
}

template <class T> struct Shuffle { T given; int lane; T taken; };
template <class T> static void shuffle_together(void** arguments, int lanes) {
  for (int i = 0; i < lanes; i++) {
    Shuffle<T>* own = (Shuffle<T>*)arguments[i];
    if (own->lane >= lanes) machine->fail("a shuffle reads a lane that is not there", 0);
    own->taken = ((Shuffle<T>*)arguments[own->lane])->given;
  }
}
template <class T> DEVICE T shuffle(T x, int lane, int line) {
  Shuffle<T> own = {x, lane & 31, x};
  machine->wait_for_warp(shuffle_together<T>, line, &own);
  return own.taken;
}
DEVICE int lane_number() { return machine->number & 31; }
DEVICE float shuffle_xor(float x, int mask, int line = __builtin_LINE()) { return shuffle(x, lane_number() ^ mask, line); }
DEVICE int shuffle_xor(int x, int mask, int line = __builtin_LINE()) { return shuffle(x, lane_number() ^ mask, line); }
DEVICE double shuffle_xor(double x, int mask, int line = __builtin_LINE()) { return shuffle(x, lane_number() ^ mask, line); }
DEVICE int64 shuffle_xor(int64 x, int mask, int line = __builtin_LINE()) { return shuffle(x, lane_number() ^ mask, line); }
DEVICE uint64 shuffle_xor(uint64 x, int mask, int line = __builtin_LINE()) { return shuffle(x, lane_number() ^ mask, line); }

// ---- asynchronous copies

DEVICE void cp_async(void* to, const void* from, int bytes, bool inside, int line) {
  if ((uint64)to % bytes || (inside && (uint64)from % bytes)) machine->fail("cp_async of an address that is not aligned", line);
  machine->copy(to, from, bytes, inside ? bytes : 0);
}
DEVICE void cp_async16(void* to, const void* from, bool inside, int line = __builtin_LINE()) { cp_async(to, from, 16, inside, line); }
DEVICE void cp_async4(void* to, const void* from, bool inside, int line = __builtin_LINE()) { cp_async(to, from, 4, inside, line); }
DEVICE void cp_async_commit() { machine->commit(); }
template <int pending> DEVICE void cp_async_wait() { machine->wait_for_copies(pending); }

// ---- tensor cores

static void need_whole_warp(int lanes) {
  if (lanes != 32) machine->fail("a warp of fewer than 32 threads multiplies matrices", 0);
}
struct Rows { const unsigned char* row; uint32* to; };
static void ldmatrix_together(void** arguments, int lanes) {
  need_whole_warp(lanes);
  for (int matrix = 0; matrix < 4; matrix++)
    for (int lane = 0; lane < 32; lane++) {
      uint16 pair[2];
      for (int i = 0; i < 2; i++) {
        const unsigned char* row = ((Rows*)arguments[matrix * 8 + lane / 4])->row;
        __builtin_memcpy(&pair[i], row + 2 * (lane % 4 * 2 + i), 2);
      }
      ((Rows*)arguments[lane])->to[matrix] = pair[0] | (uint32)pair[1] << 16;
    }
}
DEVICE void ldmatrix_x4(uint32* to, const void* row, int line = __builtin_LINE()) {
  if ((uint64)row % 16) machine->fail("ldmatrix of an address that is not aligned", line);
  Rows own = {(const unsigned char*)row, to};
  machine->wait_for_warp(ldmatrix_together, line, &own);
}

struct HalfElement { enum { each = 2 }; static float of(uint32 word, int i) { return widen(float16{(uint16)(word >> 16 * i)}); } };
struct BrainElement { enum { each = 2 }; static float of(uint32 word, int i) { return bits_to_float(word >> 16 * i << 16); } };
struct Tf32Element { enum { each = 1 }; static float of(uint32 word, int) { return bits_to_float(word & 0xFFFFE000u); } };
struct Fragments { float* c; const uint32 *a, *b; };
// Tensor cores cut sums off instead of rounding them, so that long sums drift towards zero.
static float cut_off(double x) {
  float y = (float)x;
  return (y < 0 ? -y : y) > (x < 0 ? -x : x) ? bits_to_float(float_to_bits(y) - 1) : y;
}
template <class Element> static void mma_together(void** arguments, int lanes) {
  need_whole_warp(lanes);
  enum { each = Element::each, half = 4 * each };
  float a[16][2 * half], b[2 * half][8];
  double c[16][8];
  for (int lane = 0; lane < 32; lane++) {
    Fragments* own = (Fragments*)arguments[lane];
    int row = lane / 4, column = lane % 4;
    for (int i = 0; i < each; i++)
      for (int part = 0; part < 2; part++) {
        int k = column * each + i + part * half;
        a[row][k] = Element::of(own->a[2 * part], i);
        a[row + 8][k] = Element::of(own->a[2 * part + 1], i);
        b[k][row] = Element::of(own->b[part], i);
      }
    for (int i = 0; i < 4; i++) c[row + i / 2 * 8][column * 2 + i % 2] = own->c[i];
  }
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 2 * half; k++)
      for (int j = 0; j < 8; j++) c[i][j] += (double)a[i][k] * b[k][j];
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++) ((Fragments*)arguments[lane])->c[i] = cut_off(c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
}
#define MMA(name, Element)                                                                              \
  DEVICE void name(float* c, const uint32* a, const uint32* b, int line = __builtin_LINE()) {           \
    Fragments own = {c, a, b};                                                                          \
    machine->wait_for_warp(mma_together<Element>, line, &own);                                          \
  }
MMA(mma_f16, HalfElement)
MMA(mma_bf16, BrainElement)
MMA(mma_tf32, Tf32Element)

// ---- how machine.cpp enters the kernel

template <int... numbers> struct Numbers {};
template <int count, int... rest> struct CountTo : CountTo<count - 1, count - 1, rest...> {};
template <int... numbers> struct CountTo<0, numbers...> { typedef Numbers<numbers...> type; };
template <class... Pointers, int... i> static void enter(void (*kernel)(Pointers...), void** pointers, Numbers<i...>) {
  kernel((Pointers)pointers[i]...);
}
#define EMULATED_KERNEL(kernel, count)                                                                  \
  extern "C" void emulated_machine(emulator::Machine* given) { machine = given; }                       \
  extern "C" void emulated_kernel(void** pointers) { enter(kernel, pointers, CountTo<count>::type()); }
