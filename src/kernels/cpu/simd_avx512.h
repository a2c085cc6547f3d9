// Vectors of 16 floats (AVX-512 F, BW, DQ, VL). Included by simd.h only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace bifocal::kernels::cpu {
namespace {
namespace simd {

using Vec = __m512;
constexpr int64_t kLanes = 16;

inline Vec zero() {
  return _mm512_setzero_ps();
}
inline Vec set1(float v) {
  return _mm512_set1_ps(v);
}
inline Vec load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store(float* p, Vec v) {
  _mm512_storeu_ps(p, v);
}
inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>((1U << n) - 1U);
}
inline Vec load_first(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first(n), p);
}
inline void store_first(float* p, Vec v, int64_t n) {
  _mm512_mask_storeu_ps(p, first(n), v);
}

inline Vec add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
inline Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
inline Vec min(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}

inline float sum(Vec v) {
  return _mm512_reduce_add_ps(v);
}
inline float max_lane(Vec v) {
  return _mm512_reduce_max_ps(v);
}
inline Vec swap_pairs(Vec v) {
  return _mm512_permute_ps(v, 0xb1);
}
inline Vec round(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec times_power_of_two(Vec v, Vec exponent) {
  return _mm512_scalef_ps(v, exponent);
}

inline Vec load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Vec load_f8_e4m3(const uint8_t* p) {
  // The bits moved up are an f16 with an exponent too small by 8, subnormals included; all ones is NaN.
  const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
  const __m256i nan =
      _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7c00));
  const __m256i half = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign), nan);
  return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0F));
}

inline void store_f16(uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store_bf16(uint16_t* p, Vec v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i high = _mm512_srli_epi32(u, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, bias), 16);
  const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet)));
}
inline void store_f8_e4m3(uint8_t* p, Vec v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(u, 24), _mm512_set1_epi32(0x80));
  const __m512 magnitude = _mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff)));
  const __m512i m = _mm512_castps_si512(_mm512_min_ps(_mm512_set1_ps(448.0F), magnitude));  // NaN stays NaN
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(m, 20), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(m, _mm512_set1_epi32(0x7ffff)), odd);
  const __m512i normal = _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32(120 << 3));
  // Below 2^-6 the step is 2^-9, the last place of 2^14: adding 2^14 rounds, and leaves the count in the low
  // bits.
  const __m512i shifted = _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(m), _mm512_set1_ps(0x1p14F)));
  const __m512i subnormal = _mm512_sub_epi32(shifted, _mm512_castps_si512(_mm512_set1_ps(0x1p14F)));
  const __mmask16 small = _mm512_cmp_ps_mask(_mm512_castsi512_ps(m), _mm512_set1_ps(0x1p-6F), _CMP_LT_OQ);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  __m512i out = _mm512_mask_mov_epi32(normal, small, subnormal);
  out = _mm512_mask_mov_epi32(out, nan, _mm512_set1_epi32(0x7f));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_or_si512(out, sign)));
}

// kLanes pairs of bf16: the first and the second element of each pair.
inline Vec load_bf16_even(const uint16_t* pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
}
inline Vec load_bf16_odd(const uint16_t* pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_loadu_si512(pairs), _mm512_set1_epi32(static_cast<int32_t>(0xffff0000U))));
}

}  // namespace simd
}  // namespace
}  // namespace bifocal::kernels::cpu
