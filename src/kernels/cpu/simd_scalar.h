// Vectors of 4 floats by the compiler's portable vector types, for any processor. Included by simd.h only.
#pragma once

#include <cstdint>

#include "kernels/cpu/float_bits.h"

namespace bifocal::kernels::cpu {
namespace {
namespace simd {

constexpr int64_t kLanes = 4;
using Vec = float __attribute__((vector_size(16)));
using Bits = uint32_t __attribute__((vector_size(16)));

inline Vec set1(float s) {
  return Vec{s, s, s, s};
}
inline Vec zero() {
  return Vec{};
}
inline Vec load(const float* p) {
  return Vec{p[0], p[1], p[2], p[3]};
}
inline void store(float* p, Vec a) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = a[i];
}
inline Vec load_first(const float* p, int64_t n) {
  Vec out{};
  for (int64_t i = 0; i < n; ++i) out[i] = p[i];
  return out;
}
inline void store_first(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a[i];
}

inline Vec add(Vec a, Vec b) {
  return a + b;
}
inline Vec sub(Vec a, Vec b) {
  return a - b;
}
inline Vec mul(Vec a, Vec b) {
  return a * b;
}
inline Vec div(Vec a, Vec b) {
  return a / b;
}
// As on x86, the second operand wins when one is NaN.
inline Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}
inline Vec min(Vec a, Vec b) {
  return a < b ? a : b;
}
// Rounds twice: a library call per element would be far slower than this whole path.
inline Vec fma(Vec a, Vec b, Vec c) {
  return a * b + c;
}

inline float sum(Vec a) {
  return (a[0] + a[2]) + (a[1] + a[3]);
}
inline float max_lane(Vec a) {
  float m = a[0];
  for (int64_t i = 1; i < kLanes; ++i) m = m > a[i] ? m : a[i];
  return m;
}
inline Vec swap_pairs(Vec a) {
  return Vec{a[1], a[0], a[3], a[2]};
}
// To the nearest integer, ties to even, for magnitudes below 2^22.
inline Vec round(Vec a) {
  return (a + 0x1.8p23F) - 0x1.8p23F;
}
inline Vec times_power_of_two(Vec a, Vec exponent) {
  Vec out{};
  for (int64_t i = 0; i < kLanes; ++i) {
    const float e = exponent[i];
    const auto n = static_cast<int32_t>(e == e ? e : 0.0F);  // NaN: so is a
    const int32_t half = n >> 1;
    const float s = float_from_bits(static_cast<uint32_t>(half + 127) << 23);
    const float t = float_from_bits(static_cast<uint32_t>(n - half + 127) << 23);
    out[i] = a[i] * s * t;
  }
  return out;
}

template <class T, class Fn>
inline Vec load_as(const T* p, Fn to_float) {
  return Vec{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])};
}
template <class T, class Fn>
inline void store_as(T* p, Vec a, Fn from_float) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = from_float(a[i]);
}
inline Vec from_bits(Bits b) {
  return __builtin_bit_cast(Vec, b);
}
inline Bits load_u16(const uint16_t* p) {
  return Bits{p[0], p[1], p[2], p[3]};
}
inline Bits load_u32(const uint16_t* pairs) {
  Bits b;
  __builtin_memcpy(&b, pairs, sizeof(b));
  return b;
}
inline Vec load_f16(const uint16_t* p) {  // as float_from_f16
  const Bits bits = load_u16(p);
  const Bits magnitude = (bits & 0x7fffU) << 13;
  const Bits finite = __builtin_bit_cast(Bits, from_bits(magnitude) * 0x1p112F);
  const Bits value = magnitude >= 0x0f800000U ? magnitude | 0x7f800000U : finite;
  return from_bits(((bits & 0x8000U) << 16) | value);
}
inline Vec load_bf16(const uint16_t* p) {
  return from_bits(load_u16(p) << 16);
}
inline Vec load_f8_e4m3(const uint8_t* p) {
  return load_as(p, float_from_f8_e4m3);
}
inline void store_f16(uint16_t* p, Vec a) {
  store_as(p, a, f16_from_float);
}
inline void store_bf16(uint16_t* p, Vec a) {
  store_as(p, a, bf16_from_float);
}
inline void store_f8_e4m3(uint8_t* p, Vec a) {
  store_as(p, a, f8_e4m3_from_float);
}

// kLanes pairs of bf16: the first and the second element of each pair.
// In memory order the first of a pair is the low half on little-endian machines, the high half on others.
constexpr bool kLittleEndian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
inline Vec load_bf16_even(const uint16_t* pairs) {
  return from_bits(kLittleEndian ? load_u32(pairs) << 16 : load_u32(pairs) & 0xffff0000U);
}
inline Vec load_bf16_odd(const uint16_t* pairs) {
  return from_bits(kLittleEndian ? load_u32(pairs) & 0xffff0000U : load_u32(pairs) << 16);
}

}  // namespace simd
}  // namespace
}  // namespace bifocal::kernels::cpu
