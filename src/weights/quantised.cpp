#include "weights/quantised.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "kernels/cpu/float_bits.h"

namespace bifocal::weights {
namespace {

constexpr int64_t kMaxBlock = 1 << 16;
constexpr size_t kMxValues = 32;  // that share a scale
constexpr size_t kMxBytes = kMxValues / 2;

Status refuse(const JsonReader& settings, std::string_view key, const std::string& value,
              std::string_view expected) {
  std::string shown;
  append_json_string(shown, value.substr(0, 64));
  return unsupported(
      fmt::format("{}: {} is not supported; expected {}", settings.path_of(key), shown, expected));
}

Expected<Quantisation> parse_fp8(const JsonReader& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto format, settings.get_string("fmt"));
  if (format && *format != "e4m3") return refuse(settings, "fmt", *format, "\"e4m3\"");
  BIFOCAL_ASSIGN_OR_RETURN(const auto block, settings.get_ints("weight_block_size", 1, kMaxBlock, 2));
  if (!block || block->size() != 2) {
    return unsupported(
        fmt::format("{}: missing; fp8 weights are supported with a scale per block, as in [128, 128]",
                    settings.path_of("weight_block_size")));
  }
  return Quantisation{QuantMethod::fp8, (*block)[0], (*block)[1]};
}

float scale_at(const QuantisedTensor& tensor, int64_t i) {
  const std::byte* at = tensor.scales.data() + static_cast<size_t>(i) * size_of(tensor.scale_dtype);
  if (tensor.scale_dtype == DType::f32) {
    float scale = 0;
    std::memcpy(&scale, at, sizeof(scale));
    return scale;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return tensor.scale_dtype == DType::f16 ? to_float(Float16{bits}) : to_float(BFloat16{bits});
}

}  // namespace

std::string_view to_string(QuantMethod method) {
  switch (method) {
    case QuantMethod::none:
      return "none";
    case QuantMethod::fp8:
      return "fp8";
    case QuantMethod::mxfp4:
      return "mxfp4";
  }
  return "unknown";
}

Expected<Quantisation> parse_quantisation(const JsonReader& config) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto settings, config.get_object(key));
    if (!settings) continue;
    BIFOCAL_ASSIGN_OR_RETURN(const auto method, settings->get_string("quant_method"));
    if (method == "fp8") return parse_fp8(*settings);
    if (method == "mxfp4") return Quantisation{QuantMethod::mxfp4, 0, 0};
    return refuse(*settings, "quant_method", method.value_or(""), "\"fp8\" or \"mxfp4\"");
  }
  return Quantisation{};
}

void dequantise_fp8(const QuantisedTensor& tensor, int64_t n, int64_t k, float* out) {
  static const auto values = [] {
    std::array<float, 256> table{};
    for (size_t code = 0; code < table.size(); ++code) {
      table[code] = kernels::cpu::float_from_f8_e4m3(static_cast<uint8_t>(code));
    }
    return table;
  }();
  const int64_t columns = tensor.quantisation.block_columns;
  const int64_t scale_columns = (k + columns - 1) / columns;
  const std::byte* code = tensor.values.data();
  for (int64_t row = 0; row < n; ++row) {
    const int64_t scale_row = row / tensor.quantisation.block_rows * scale_columns;
    for (int64_t begin = 0; begin < k; begin += columns) {
      const float scale = scale_at(tensor, scale_row + begin / columns);
      const int64_t end = begin + columns < k ? begin + columns : k;
      for (int64_t i = begin; i < end; ++i) *out++ = values[std::to_integer<size_t>(*code++)] * scale;
    }
  }
}

void dequantise_mxfp4(const QuantisedTensor& tensor, BFloat16* out) {
  constexpr std::array<float, 8> kMagnitudes = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  const std::byte* code = tensor.values.data();
  for (const std::byte scale : tensor.scales) {
    // 2^(scale - 127): the scale is a float's exponent, but for 0, which is a subnormal's leading bit.
    const auto exponent = std::to_integer<uint32_t>(scale);
    const auto factor = std::bit_cast<float>(exponent == 0 ? uint32_t{1} << 22 : exponent << 23);
    std::array<BFloat16, 16> values{};
    for (size_t i = 0; i < 8; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(kMagnitudes[i] * factor);
      values[i].bits = static_cast<uint16_t>(bits >> 16);
      values[i + 8].bits = static_cast<uint16_t>(bits >> 16 | 0x8000U);
    }
    for (size_t i = 0; i < kMxBytes; ++i) {
      const auto pair = std::to_integer<size_t>(*code++);
      *out++ = values[pair & 15];
      *out++ = values[pair >> 4];
    }
  }
}

}  // namespace bifocal::weights
