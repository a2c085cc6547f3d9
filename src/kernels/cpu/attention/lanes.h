// What attention needs of a vector beyond simd.h. Internal linkage, like simd.h.
#pragma once

#include <cstring>

#include "kernels/cpu/attention/span.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {
namespace simd {

constexpr int kWidth = static_cast<int>(kLanes);
constexpr float kInfinity = __builtin_inff();

// Array bounds from int constants.
constexpr size_t extent(int n) {
  return static_cast<size_t>(n);
}

#if defined(__AVX512F__)

// Lanes outside [begin, end) become -inf; either may lie outside the vector.
inline Vec keep_lanes(Vec v, int begin, int end) {
  const auto below = [](int n) { return n <= 0 ? 0U : n >= kWidth ? 0xffffU : (1U << n) - 1U; };
  return _mm512_mask_mov_ps(set1(-kInfinity), static_cast<__mmask16>(below(end) & ~below(begin)), v);
}
inline Vec zero_where_less(Vec value, Vec x, Vec limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}
// Lane i is the sum over a[i]: a butterfly, so that each is summed in the same order.
inline Vec sum_each(const Vec (&a)[16]) {
  Vec t[8];
  for (int i = 0; i < 8; ++i) {
    const Vec low = _mm512_mask_blend_ps(0xFF00, a[i], a[i + 8]);
    t[i] = add(low, _mm512_shuffle_f32x4(a[i], a[i + 8], 0x4E));
  }
  Vec u[4];
  for (int i = 0; i < 4; ++i) {
    const Vec even = _mm512_mask_blend_ps(0xF0F0, t[i], t[i + 4]);
    const Vec odd = _mm512_mask_blend_ps(0x0F0F, t[i], t[i + 4]);
    u[i] = add(even, _mm512_shuffle_f32x4(odd, odd, 0xB1));
  }
  const Vec w0 = add(_mm512_shuffle_ps(u[0], u[1], 0x44), _mm512_shuffle_ps(u[0], u[1], 0xEE));
  const Vec w1 = add(_mm512_shuffle_ps(u[2], u[3], 0x44), _mm512_shuffle_ps(u[2], u[3], 0xEE));
  return add(_mm512_shuffle_ps(w0, w1, 0x88), _mm512_shuffle_ps(w0, w1, 0xDD));
}
inline void transpose(Vec (&r)[16]) {
  Vec t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  Vec u[16];  // u[4 i + j]: column j of each group of four columns, rows 4 i to 4 i + 3
  for (int i = 0; i < 4; ++i) {
    u[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    u[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88);
    const Vec b = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xDD);
    const Vec c = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);
    const Vec d = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xDD);
    r[j] = _mm512_shuffle_f32x4(a, c, 0x88);
    r[4 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
    r[8 + j] = _mm512_shuffle_f32x4(a, c, 0xDD);
    r[12 + j] = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}

#elif defined(__AVX2__)

inline Vec keep_lanes(Vec v, int begin, int end) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane);
  const __m256i inside = _mm256_andnot_si256(below, _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
  return _mm256_blendv_ps(set1(-kInfinity), v, _mm256_castsi256_ps(inside));
}
inline Vec zero_where_less(Vec value, Vec x, Vec limit) {
  return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), value);
}
inline Vec sum_each(const Vec (&a)[8]) {
  Vec t[4];
  for (int i = 0; i < 4; ++i) {
    t[i] = add(_mm256_blend_ps(a[i], a[i + 4], 0xF0), _mm256_permute2f128_ps(a[i], a[i + 4], 0x21));
  }
  const Vec u0 = add(_mm256_shuffle_ps(t[0], t[1], 0x44), _mm256_shuffle_ps(t[0], t[1], 0xEE));
  const Vec u1 = add(_mm256_shuffle_ps(t[2], t[3], 0x44), _mm256_shuffle_ps(t[2], t[3], 0xEE));
  return add(_mm256_shuffle_ps(u0, u1, 0x88), _mm256_shuffle_ps(u0, u1, 0xDD));
}
inline void transpose(Vec (&r)[8]) {
  Vec t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  Vec u[8];
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

#else

inline Vec keep_lanes(Vec v, int begin, int end) {
  for (int i = 0; i < kWidth; ++i) {
    if (i < begin || i >= end) v[i] = -kInfinity;
  }
  return v;
}
inline Vec zero_where_less(Vec value, Vec x, Vec limit) {
  return x < limit ? zero() : value;
}
inline void transpose(Vec (&r)[4]) {
  for (int i = 0; i < kWidth; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = x;
    }
  }
}
inline Vec sum_each(const Vec (&a)[4]) {
  Vec r[4] = {a[0], a[1], a[2], a[3]};
  transpose(r);
  return add(add(r[0], r[2]), add(r[1], r[3]));
}

#endif

// 2^x for x <= 0: 2^0 is exactly 1; below 2^-126 it is 0, so that masked keys cost no subnormal arithmetic;
// NaN stays NaN. Minimax polynomial of degree 6 on [-0.5, 0.5] with value 1 at 0; relative error
// below 1.2e-7.
inline Vec exp2_nonpositive(Vec x) {
  const Vec smallest = set1(-126.0F);
  const Vec clamped = max(smallest, x);
  const Vec n = round(clamped);
  const Vec f = sub(clamped, n);
  Vec p = set1(0x1.470b4ap-13F);
  p = fma(p, f, set1(0x1.5f7276p-10F));
  p = fma(p, f, set1(0x1.3b270ep-7F));
  p = fma(p, f, set1(0x1.c6ae72p-5F));
  p = fma(p, f, set1(0x1.ebfbe2p-3F));
  p = fma(p, f, set1(0x1.62e432p-1F));
  p = fma(p, f, set1(1.0F));
  return zero_where_less(times_power_of_two(p, n), x, smallest);
}
inline float exp2_nonpositive(float x) {
  float lane[extent(kWidth)];
  store(lane, exp2_nonpositive(set1(x)));
  return lane[0];
}

// The elements of a KV cache. kLoads * kWidth of them are loaded in the cheapest order that their type has:
// part `n` of these is kLoads apart, from the n-th on.
struct F32 {
  using Storage = float;
  static Vec load(const Storage* p) { return simd::load(p); }
  static constexpr int kLoads = 1;
  static Vec load_part(const Storage* p, int) { return load(p); }
  static float value(Storage x) { return x; }
};
struct F16 {
  using Storage = uint16_t;
  static Vec load(const Storage* p) { return load_f16(p); }
  static constexpr int kLoads = 1;
  static Vec load_part(const Storage* p, int) { return load(p); }
  static float value(Storage x) { return float_from_f16(x); }
};
struct Bf16 {
  using Storage = uint16_t;
  static Vec load(const Storage* p) { return load_bf16(p); }
  static constexpr int kLoads = 2;
  static Vec load_part(const Storage* p, int part) {
    return part == 0 ? load_bf16_even(p) : load_bf16_odd(p);
  }
  static float value(Storage x) { return float_from_bf16(x); }
};
struct E4m3 {
  using Storage = uint8_t;
  static Vec load(const Storage* p) { return load_f8_e4m3(p); }
  static constexpr int kLoads = 1;
  static Vec load_part(const Storage* p, int) { return load(p); }
  static float value(Storage x) { return float_from_f8_e4m3(x); }
};

// The first `count` < kWidth elements at p; the other lanes are zero.
template <class Element>
Vec load_tail(const typename Element::Storage* p, int count) {
  typename Element::Storage padded[extent(kWidth)] = {};
  std::memcpy(padded, p, extent(count) * sizeof(padded[0]));
  return Element::load(padded);
}

template <class Element>
Vec load_up_to(const typename Element::Storage* p, int count) {
  return count < kWidth ? load_tail<Element>(p, count) : Element::load(p);
}

// Where element d of a row's loads lies when they are stored one after another; a last piece that does not
// fill them all keeps its order.
template <class Element>
int load_index(int d, int head_dim) {
  constexpr int kStep = kWidth * Element::kLoads;
  if (d >= head_dim / kStep * kStep) return d;
  const int within = d % kStep;
  return d - within + within % Element::kLoads * kWidth + within / Element::kLoads;
}

}  // namespace simd
}  // namespace
}  // namespace bifocal::kernels::cpu
