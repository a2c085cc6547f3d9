// Weights stored in fewer bits: what config.json says of them, and their values.
//
// fp8: X [N, K] in e4m3, X_scale_inv [ceil(N / block_rows), ceil(K / block_columns)]; a value is its code
// times
//   its block's scale (DeepSeek-V3, arXiv 2412.19437, section 3.3).
// mxfp4: X_blocks [..., N, K / 32, 16] and X_scales [..., N, K / 32], both u8; 32 values along K share the
// scale
//   2^(scale - 127), two 4-bit e2m1 codes per byte, the low one first (OCP Microscaling Formats 1.0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "tensor/tensor.h"

namespace bifocal::weights {

enum class QuantMethod : uint8_t { none, fp8, mxfp4 };
std::string_view to_string(QuantMethod method);

struct Quantisation {
  QuantMethod method = QuantMethod::none;
  int64_t block_rows = 0;  // of fp8
  int64_t block_columns = 0;
};

// quantization_config of config.json. unsupported with the field, its value and what is supported for other
// methods and settings.
Expected<Quantisation> parse_quantisation(const JsonReader& config);

// A quantised tensor's bytes, at any address.
struct QuantisedTensor {
  Quantisation quantisation;
  std::span<const std::byte> values;
  std::span<const std::byte> scales;
  DType scale_dtype = DType::f32;  // of fp8: f32, f16 or bf16
};

// fp8: [N, K] in f32. `values` and `scales` have the sizes that follow from n and k.
void dequantise_fp8(const QuantisedTensor& tensor, int64_t n, int64_t k, float* out);
// mxfp4: one after another, 32 per scale. Every value is exact in bf16, but for scales of which
// no finite bf16 is 6 times.
void dequantise_mxfp4(const QuantisedTensor& tensor, BFloat16* out);

}  // namespace bifocal::weights
