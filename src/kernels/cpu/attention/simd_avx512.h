// AVX-512 F, BW, DQ and VL. Include inside a region compiled for these (see kernels_avx512.cpp), after
// <immintrin.h>.
#pragma once

#include "kernels/cpu/attention/element.h"

namespace bifocal::kernels::cpu {

struct Avx512Simd {
  static constexpr int kWidth = 16;
  static constexpr int kTileRows = 12;  // 12 x 2 accumulators + 2 operands + broadcasts of 32 registers
  static constexpr int kTileVectors = 2;
  static constexpr int kAccumulators = 16;
  using V = __m512;

  static V zero() { return _mm512_setzero_ps(); }
  static V set1(float x) { return _mm512_set1_ps(x); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V max(V a, V b) { return _mm512_max_ps(a, b); }
  static V round(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V scale_by_power_of_two(V p, V n) { return _mm512_scalef_ps(p, n); }
  static V zero_where_less(V value, V x, V limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
  }
  static unsigned lanes_below(int n) { return n <= 0 ? 0U : n >= kWidth ? 0xffffU : (1U << n) - 1U; }
  static V keep_range(V v, int begin, int end) {
    const auto mask = static_cast<__mmask16>(lanes_below(end) & ~lanes_below(begin));
    return _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), mask, v);
  }
  static float reduce_max(V v) { return _mm512_reduce_max_ps(v); }
  static float reduce_add(V v) { return _mm512_reduce_add_ps(v); }
  // Lane i is the sum over a[i]: a butterfly, so that each is summed in the same order.
  static V reduce_each(const V (&a)[kWidth]) {
    V t[8];
    for (int i = 0; i < 8; ++i) {
      const V low = _mm512_mask_blend_ps(0xFF00, a[i], a[i + 8]);
      t[i] = _mm512_add_ps(low, _mm512_shuffle_f32x4(a[i], a[i + 8], 0x4E));
    }
    V u[4];
    for (int i = 0; i < 4; ++i) {
      const V even = _mm512_mask_blend_ps(0xF0F0, t[i], t[i + 4]);
      const V odd = _mm512_mask_blend_ps(0x0F0F, t[i], t[i + 4]);
      u[i] = _mm512_add_ps(even, _mm512_shuffle_f32x4(odd, odd, 0xB1));
    }
    const V w0 = _mm512_add_ps(_mm512_shuffle_ps(u[0], u[1], 0x44), _mm512_shuffle_ps(u[0], u[1], 0xEE));
    const V w1 = _mm512_add_ps(_mm512_shuffle_ps(u[2], u[3], 0x44), _mm512_shuffle_ps(u[2], u[3], 0xEE));
    return _mm512_add_ps(_mm512_shuffle_ps(w0, w1, 0x88), _mm512_shuffle_ps(w0, w1, 0xDD));
  }
  static void transpose(V (&r)[kWidth]) {
    V t[16];
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // u[4 i + j]: column j of each group of four columns, rows 4 i to 4 i + 3.
    V u[16];
    for (int i = 0; i < 4; ++i) {
      u[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
      u[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
      u[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
      u[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    for (int j = 0; j < 4; ++j) {
      const V a = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88);
      const V b = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xDD);
      const V c = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);
      const V d = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xDD);
      r[j] = _mm512_shuffle_f32x4(a, c, 0x88);
      r[4 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
      r[8 + j] = _mm512_shuffle_f32x4(a, c, 0xDD);
      r[12 + j] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
  }
  template <DType kDType>
  static V load_kv(const void* p) {
    if constexpr (kDType == DType::f32) {
      return _mm512_loadu_ps(p);
    } else if constexpr (kDType == DType::bf16) {
      const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
      return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    } else if constexpr (kDType == DType::f16) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    } else {
      // The bits of an E4M3 number, shifted, are the F16 number 2^-8 times as large, subnormals included.
      const __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
      const __m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi16(0x7f));
      const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x80)), 8);
      const __m256i is_nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
      const __m256i half = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign),
                                           _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7e00)));
      return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0F));
    }
  }
  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
};

}  // namespace bifocal::kernels::cpu
