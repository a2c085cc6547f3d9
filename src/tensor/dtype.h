// Element types and their scalar conversions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/status.h"

namespace bifocal {

enum class DType : uint8_t { f32, f16, bf16, f8_e4m3, f8_e5m2, i8, u8, i16, i32, i64, boolean };

size_t size_of(DType dtype);              // bytes per element
std::string_view to_string(DType dtype);  // "f32", "bf16", ...
// Accepts our names, SGLang's and torch's: "bfloat16", "float16" or "half", "float32" or "float", "fp8_e4m3",
// ...
Expected<DType> parse_dtype(std::string_view name);

// bfloat16: the upper half of a float; conversion rounds to nearest even and keeps NaN a NaN.
struct BFloat16 {
  uint16_t bits = 0;
};
inline float to_float(BFloat16 v) {
  return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16);
}
inline BFloat16 to_bfloat16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  if ((u & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((u >> 16) | 0x40U)};
  return {static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16)};
}

// IEEE binary16.
struct Float16 {
  uint16_t bits = 0;
};
float to_float(Float16 v);
Float16 to_float16(float v);

}  // namespace bifocal
