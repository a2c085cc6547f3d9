// Conversions of single values, for the plain C++ vectors and for the ends of rows. Internal linkage, like
// simd.h.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cpu {
namespace {

inline float float_from_bits(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
inline uint32_t bits_of(float v) {
  return __builtin_bit_cast(uint32_t, v);
}

inline float float_from_bf16(uint16_t bits) {
  return float_from_bits(static_cast<uint32_t>(bits) << 16);
}
inline uint16_t bf16_from_float(float v) {
  const uint32_t u = bits_of(v);
  if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((u >> 16) | 0x40U);
  return static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
}

// A float of `exponent_bits` and `mantissa_bits` moved to its place in 32 bits has an exponent that is too
// small by the difference of the biases; a multiplication by a power of two mends that, for subnormals as
// well.
inline float float_from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffU) << 13;
  if (magnitude >= 0x0f800000U) return float_from_bits(sign | magnitude | 0x7f800000U);  // infinity, NaN
  return float_from_bits(sign | bits_of(float_from_bits(magnitude) * 0x1p112F));
}
inline uint16_t f16_from_float(float v) {
  const uint32_t u = bits_of(v);
  const uint32_t sign = (u >> 16) & 0x8000U;
  const uint32_t magnitude = u & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to infinity
  if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 leaves the rounded count of 2^-24 in the low bits
    return static_cast<uint16_t>(sign | (bits_of(float_from_bits(magnitude) + 0.5F) - bits_of(0.5F)));
  }
  return static_cast<uint16_t>(sign | ((magnitude + 0xfffU + ((magnitude >> 13) & 1U) - 0x38000000U) >> 13));
}

// E4M3 with the largest value 448, no infinity and one NaN per sign (OCP 8-bit floating point, revision 1.0).
inline float float_from_f8_e4m3(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80U) << 24;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fU) << 20;
  if (magnitude == 0x07f00000U) return float_from_bits(sign | 0x7fc00000U);
  return float_from_bits(sign | bits_of(float_from_bits(magnitude) * 0x1p120F));
}
// To nearest even; beyond 448, infinity included, gives 448; NaN stays NaN.
inline uint8_t f8_e4m3_from_float(float v) {
  const uint32_t u = bits_of(v);
  const uint32_t sign = (u >> 24) & 0x80U;
  uint32_t magnitude = u & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint8_t>(sign | 0x7fU);
  if (magnitude > bits_of(448.0F)) magnitude = bits_of(448.0F);
  if (magnitude <
      bits_of(0x1p-6F)) {  // subnormal: adding 2^14 leaves the rounded count of 2^-9 in the low bits
    return static_cast<uint8_t>(sign | (bits_of(float_from_bits(magnitude) + 0x1p14F) - bits_of(0x1p14F)));
  }
  return static_cast<uint8_t>(sign |
                              (((magnitude + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20) - (120U << 3)));
}

}  // namespace
}  // namespace bifocal::kernels::cpu
