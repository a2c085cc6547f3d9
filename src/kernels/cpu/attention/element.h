// Single elements of the KV cache as floats.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "tensor/dtype.h"

namespace bifocal::kernels::cpu {

// FP8 E4M3 (OCP 8-bit floating point, revision 1.0): bias 7, no infinity, 0x7f and 0xff are NaN, largest 448.
inline float e4m3_to_float(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80U) << 24;
  const uint32_t exponent = (bits >> 3) & 0xfU;
  const uint32_t mantissa = bits & 0x7U;
  if ((bits & 0x7fU) == 0x7fU) return std::numeric_limits<float>::quiet_NaN();
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 120U) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

template <DType kDType>
constexpr int kElementBytes = kDType == DType::f32       ? 4
                              : kDType == DType::f8_e4m3 ? 1
                                                         : 2;

template <DType kDType>
float load_element(const void* p, int64_t i) {
  if constexpr (kDType == DType::f32) {
    return static_cast<const float*>(p)[i];
  } else if constexpr (kDType == DType::bf16) {
    return to_float(static_cast<const BFloat16*>(p)[i]);
  } else if constexpr (kDType == DType::f16) {
    return to_float(static_cast<const Float16*>(p)[i]);
  } else {
    static_assert(kDType == DType::f8_e4m3);
    return e4m3_to_float(static_cast<const uint8_t*>(p)[i]);
  }
}

inline float load_element(DType dtype, const void* p, int64_t i) {
  switch (dtype) {
    case DType::bf16:
      return load_element<DType::bf16>(p, i);
    case DType::f16:
      return load_element<DType::f16>(p, i);
    case DType::f8_e4m3:
      return load_element<DType::f8_e4m3>(p, i);
    default:
      return load_element<DType::f32>(p, i);
  }
}

}  // namespace bifocal::kernels::cpu
