#include "weights/dummy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/hash.h"

namespace bifocal::weights {
namespace {

uint64_t hash_name(uint64_t seed, std::string_view name) {
  uint64_t hash = mix64(seed);
  for (const char c : name) hash = hash_combine(hash, static_cast<unsigned char>(c));
  return hash;
}

// Where a float format keeps its exponent: values are made by setting it and drawing sign and mantissa.
struct Format {
  int bits;
  int mantissa_bits;
  int exponent_bias;
};
Format format_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {16, 10, 15};
    case DType::bf16:
      return {16, 7, 127};
    default:
      return {32, 23, 127};
  }
}

// The memory behind data is rounded up to 64 bytes (Tensor::allocate), so whole words may be written.
void fill(void* data, size_t num_bytes, const DummyPattern& pattern, ThreadPool& pool) {
  constexpr size_t kBlockWords = size_t{1} << 16;
  const size_t num_words = (num_bytes + 7) / 8;
  auto* words = static_cast<uint64_t*>(data);
  pool.parallel_for(static_cast<int64_t>((num_words + kBlockWords - 1) / kBlockWords),
                    [&](int64_t block, int) {
                      const size_t begin = static_cast<size_t>(block) * kBlockWords;
                      const size_t end = std::min(num_words, begin + kBlockWords);
                      for (size_t i = begin; i < end; ++i)
                        words[i] = (mix64(pattern.key + i) & pattern.random_mask) | pattern.constant;
                    });
}

// Small tensors whose values have a centre.
void fill_around(const TensorView& view, float centre, float spread, uint64_t key) {
  for (int64_t i = 0; i < view.num_elements(); ++i) {
    const auto unit = static_cast<float>(unit_uniform(mix64(key + static_cast<uint64_t>(i)))) - 0.5F;
    const float value = centre + 2.0F * spread * unit;
    switch (view.dtype) {
      case DType::f16:
        view.as<Float16>()[i] = to_float16(value);
        break;
      case DType::bf16:
        view.as<BFloat16>()[i] = to_bfloat16(value);
        break;
      default:
        view.as<float>()[i] = value;
    }
  }
}

}  // namespace

// Every element gets a random sign and mantissa and one exponent: magnitudes uniform in [s, 2s), whose mean
// square is 7/3 s^2.
DummyPattern dummy_matrix_pattern(uint64_t seed, std::string_view name, DType dtype, int64_t fan_in) {
  const Format format = format_of(dtype);
  const auto width = static_cast<double>(std::max<int64_t>(1, fan_in));
  const int scale_log2 = static_cast<int>(std::lround(std::log2(1.0 / std::sqrt(width * 7.0 / 3.0))));
  const uint64_t element_mask =
      uint64_t{1} << (format.bits - 1) | ((uint64_t{1} << format.mantissa_bits) - 1);
  const uint64_t element_exponent = static_cast<uint64_t>(scale_log2 + format.exponent_bias)
                                    << format.mantissa_bits;
  DummyPattern pattern;
  pattern.key = hash_name(seed, name);
  for (int shift = 0; shift < 64; shift += format.bits) {
    pattern.random_mask |= element_mask << shift;
    pattern.constant |= element_exponent << shift;
  }
  return pattern;
}

Expected<TensorView> DummyWeights::read(const std::string& name, std::span<const int64_t> shape,
                                        Tensor& staging) {
  if (dtype_ != DType::f32 && dtype_ != DType::f16 && dtype_ != DType::bf16) {
    return unsupported(fmt::format("dummy weights of {}; expected f32, f16 or bf16", to_string(dtype_)));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, stage(staging, dtype_, shape));
  if (view.rank < 2) {
    const bool norm = name.ends_with("norm.weight");
    fill_around(view, norm ? 1.0F : 0.0F, norm ? 0.25F : 0.02F, hash_name(seed_, name));
    return view;
  }
  fill(view.data, view.num_bytes(), dummy_matrix_pattern(seed_, name, dtype_, shape.back()), pool_);
  return view;
}

}  // namespace bifocal::weights
