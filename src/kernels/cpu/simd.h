// The vectors that kernels are written with: one source, compiled once per instruction set (isa.h). Which
// vector it is follows from the flags of the translation unit; see bifocal_isa_sources() in CMakeLists.txt.
//
// Everything here and in the files it includes has internal linkage, and a file compiled with an instruction
// set's flags must include nothing else that emits shared inline code (no standard algorithms, no
// tensor/dtype.h): the linker would keep one copy for the whole program, maybe the one that an older
// processor can't run.
//
//   Vec, kLanes              16, 8 or 4 floats
//   load_first, store_first  the first n lanes; the others read as 0 and are not written; n in [0, kLanes]
//   load_/store_{f16,bf16,f8_e4m3}  kLanes elements, converted; to nearest even, f8_e4m3 saturates at 448
//   fma                      one rounding (two in the scalar build)
//   exp                      relative error below 1.5e-7 where the result is a normal float
#pragma once

#include "kernels/cpu/float_bits.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_scalar.h"
#endif

namespace bifocal::kernels::cpu {
namespace {
namespace simd {

// e^x: x = n ln 2 + r, a polynomial on |r| <= ln(2)/2 (near-minimax in (e^r - 1 - r) / r^2), times 2^n.
// Overflows to infinity, underflows through the subnormals to 0; exp(-inf) = 0; NaN stays NaN.
inline Vec exp(Vec x) {
  const Vec clamped = max(set1(-104.0F), min(set1(89.0F), x));
  const Vec n = round(mul(clamped, set1(1.44269504F)));
  // ln 2 in two parts: the first has 15 bits, so n times it is exact.
  Vec r = fma(n, set1(-0x1.62e4p-1F), clamped);
  r = fma(n, set1(-1.42860677e-6F), r);
  Vec q = set1(1.392625083e-3F);
  q = fma(q, r, set1(8.363232884e-3F));
  q = fma(q, r, set1(4.166655421e-2F));
  q = fma(q, r, set1(1.666657667e-1F));
  q = fma(q, r, set1(0.5F));
  const Vec p = add(set1(1.0F), fma(q, mul(r, r), r));
  return times_power_of_two(p, n);
}

inline void prefetch(const void* p) {
  __builtin_prefetch(p);
}
inline void prefetch_second_level(const void* p) {
  __builtin_prefetch(p, 0, 2);
}

}  // namespace simd
}  // namespace
}  // namespace bifocal::kernels::cpu
