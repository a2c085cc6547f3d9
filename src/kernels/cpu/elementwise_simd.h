// The row operations of elementwise_rows.h, written once with simd.h; internal linkage for the same reason.
#pragma once

#include "kernels/cpu/elementwise_rows.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

using simd::kLanes;
using simd::Vec;

inline void rms_norm_row(const float* x, const float* w, float eps, int64_t dim, float* y) {
  Vec s0 = simd::zero();
  Vec s1 = simd::zero();
  int64_t i = 0;
  for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
    const Vec a = simd::load(x + i);
    const Vec b = simd::load(x + i + kLanes);
    s0 = simd::fma(a, a, s0);
    s1 = simd::fma(b, b, s1);
  }
  for (; i < dim; i += kLanes) {
    const Vec a = simd::load_first(x + i, dim - i < kLanes ? dim - i : kLanes);
    s0 = simd::fma(a, a, s0);
  }
  const float mean = simd::sum(simd::add(s0, s1)) / static_cast<float>(dim);
  const Vec scale = simd::set1(1.0F / __builtin_sqrtf(mean + eps));
  for (i = 0; i + kLanes <= dim; i += kLanes) {
    simd::store(y + i, simd::mul(simd::mul(simd::load(x + i), scale), simd::load(w + i)));
  }
  if (i < dim) {
    const int64_t n = dim - i;
    const Vec v = simd::mul(simd::mul(simd::load_first(x + i, n), scale), simd::load_first(w + i, n));
    simd::store_first(y + i, v, n);
  }
}

inline Vec silu(Vec x) {
  const Vec e = simd::exp(simd::sub(simd::zero(), x));
  return simd::div(x, simd::add(simd::set1(1.0F), e));
}

inline void silu_mul_row(const float* gate, const float* up, int64_t dim, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    simd::store(out + i, simd::mul(silu(simd::load(gate + i)), simd::load(up + i)));
  }
  if (i < dim) {
    const int64_t n = dim - i;
    simd::store_first(out + i, simd::mul(silu(simd::load_first(gate + i, n)), simd::load_first(up + i, n)),
                      n);
  }
}

inline Vec clamped_swiglu(Vec gate, Vec up, float limit) {
  constexpr float kSteepness = 1.702F;
  const Vec high = simd::set1(limit);
  const Vec g = simd::min(high, gate);  // in this order a NaN stays one
  const Vec u = simd::max(simd::set1(-limit), simd::min(high, up));
  const Vec e = simd::exp(simd::mul(g, simd::set1(-kSteepness)));
  const Vec one = simd::set1(1.0F);
  return simd::mul(simd::add(u, one), simd::div(g, simd::add(one, e)));
}

inline void clamped_swiglu_row(const float* gate, const float* up, float limit, int64_t dim, float* out) {
  for (int64_t i = 0; i < dim; i += kLanes) {
    const int64_t n = dim - i < kLanes ? dim - i : kLanes;
    simd::store_first(out + i,
                      clamped_swiglu(simd::load_first(gate + i, n), simd::load_first(up + i, n), limit), n);
  }
}

// sin and cos in double without branches, so that the compiler makes vectors of the loop. The angle is
// reduced to |r| <= pi/4 by multiples of pi/2 in three parts (Cody and Waite), the first two of 33 bits:
// exact for multiples below 2^20, and far below float's precision beyond.
inline void rope_angles_row(double position, const float* inv_freq, int64_t n, float factor, float* cos_out,
                            float* sin_out) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves the rounded integer in the low bits
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  constexpr double kHalfPi1 = 0x1.921fb54400000p+0;
  constexpr double kHalfPi2 = 0x1.0b4611a600000p-34;
  constexpr double kHalfPi3 = 0x1.3198a2e037073p-69;
  for (int64_t i = 0; i < n; ++i) {
    const double angle = position * static_cast<double>(inv_freq[i]);
    const double shifted = angle * kTwoOverPi + kRound;
    const auto quadrant = __builtin_bit_cast(uint64_t, shifted);
    const double turns = shifted - kRound;
    const double r = ((angle - turns * kHalfPi1) - turns * kHalfPi2) - turns * kHalfPi3;
    const double z = r * r;
    const double s =
        r + r * z *
                (-1.0 / 6 +
                 z * (1.0 / 120 +
                      z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800 + z / 6227020800.0)))));
    const double c =
        1.0 - z / 2 +
        z * z *
            (1.0 / 24 +
             z * (-1.0 / 720 +
                  z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600 - z / 87178291200.0)))));
    // Quadrants turn (cos, sin) into (-sin, cos), (-cos, -sin), (sin, -cos): swap when odd, then set the
    // signs.
    const uint64_t odd = 0 - (quadrant & 1);
    const auto s_bits = __builtin_bit_cast(uint64_t, s);
    const auto c_bits = __builtin_bit_cast(uint64_t, c);
    const uint64_t sin_bits = ((s_bits & ~odd) | (c_bits & odd)) ^ ((quadrant & 2) << 62);
    const uint64_t cos_bits = ((c_bits & ~odd) | (s_bits & odd)) ^ (((quadrant + 1) & 2) << 62);
    sin_out[i] = static_cast<float>(__builtin_bit_cast(double, sin_bits)) * factor;
    cos_out[i] = static_cast<float>(__builtin_bit_cast(double, cos_bits)) * factor;
  }
}

inline void rotate_half_row(float* first, float* second, const float* cos, const float* sin, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    const Vec a = simd::load_first(first + i, count);
    const Vec b = simd::load_first(second + i, count);
    const Vec c = simd::load_first(cos + i, count);
    const Vec s = simd::load_first(sin + i, count);
    simd::store_first(first + i, simd::sub(simd::mul(a, c), simd::mul(b, s)), count);
    simd::store_first(second + i, simd::add(simd::mul(b, c), simd::mul(a, s)), count);
  }
}

inline void rotate_interleaved_row(float* x, const float* cos, const float* sin, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

// Whole vectors, then the rest through a buffer.
template <class T, class StoreFn>
inline void convert_row(const float* x, int64_t n, T* out, StoreFn store) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, simd::load(x + i));
  if (i < n) {
    T rest[kLanes];
    store(rest, simd::load_first(x + i, n - i));
    for (int64_t j = i; j < n; ++j) out[j] = rest[j - i];
  }
}
inline void to_f16_row(const float* x, int64_t n, uint16_t* out) {
  convert_row(x, n, out, simd::store_f16);
}
inline void to_bf16_row(const float* x, int64_t n, uint16_t* out) {
  convert_row(x, n, out, simd::store_bf16);
}
inline void to_f8_e4m3_row(const float* x, int64_t n, uint8_t* out) {
  convert_row(x, n, out, simd::store_f8_e4m3);
}

constexpr ElementwiseRows kRows = {rms_norm_row,    silu_mul_row,    clamped_swiglu_row,
                                   rope_angles_row, rotate_half_row, rotate_interleaved_row,
                                   to_f16_row,      to_bf16_row,     to_f8_e4m3_row};

}  // namespace
}  // namespace bifocal::kernels::cpu
