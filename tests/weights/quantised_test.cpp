#include "weights/quantised.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "base/hash.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_files.h"

namespace bifocal::weights {
namespace {

Expected<Quantisation> parse(std::string_view text) {
  const auto document = parse_json(text, {});
  EXPECT_TRUE(document.ok());
  const auto reader = JsonReader::open(*document);
  EXPECT_TRUE(reader.ok());
  return parse_quantisation(*reader);
}

TEST(Quantisation, WhatConfigsSay) {
  EXPECT_EQ(parse("{}")->method, QuantMethod::none);
  EXPECT_EQ(parse(R"({"quantization_config":null})")->method, QuantMethod::none);
  const auto fp8 = parse(R"({"quantization_config":{"activation_scheme":"dynamic","fmt":"e4m3",
      "quant_method":"fp8","weight_block_size":[128,64]}})");
  ASSERT_TRUE(fp8.ok()) << fp8.status().message();
  EXPECT_EQ(fp8->method, QuantMethod::fp8);
  EXPECT_EQ(fp8->block_rows, 128);
  EXPECT_EQ(fp8->block_columns, 64);
  EXPECT_EQ(parse(R"({"quantization_config":{"quant_method":"mxfp4",
      "modules_to_not_convert":["model.layers.*.self_attn"]}})")
                ->method,
            QuantMethod::mxfp4);
}

TEST(Quantisation, RefusalsNameFieldValueAndWhatIsSupported) {
  const auto expect = [](std::string_view text, const std::vector<std::string>& parts) {
    const auto result = parse(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_EQ(result.status().code(), StatusCode::unsupported);
    for (const std::string& part : parts) {
      EXPECT_NE(result.status().message().find(part), std::string::npos) << result.status().message();
    }
  };
  expect(R"({"quantization_config":{"quant_method":"awq","bits":4}})",
         {"quantization_config.quant_method", "\"awq\"", "\"fp8\" or \"mxfp4\""});
  expect(R"({"quantization_config":{"bits":4}})", {"quantization_config.quant_method"});
  expect(R"({"compression_config":{"quant_method":"compressed-tensors"}})",
         {"compression_config.quant_method", "compressed-tensors"});
  expect(R"({"quantization_config":{"quant_method":"fp8","fmt":"e5m2","weight_block_size":[128,128]}})",
         {"quantization_config.fmt", "e5m2", "e4m3"});
  expect(R"({"quantization_config":{"quant_method":"fp8"}})",
         {"quantization_config.weight_block_size", "[128, 128]"});
  expect(R"({"quantization_config":{"quant_method":"fp8","weight_block_size":[128]}})",
         {"quantization_config.weight_block_size"});
  EXPECT_FALSE(parse(R"({"quantization_config":{"quant_method":"fp8","weight_block_size":[0,128]}})").ok());
  EXPECT_FALSE(parse(R"({"quantization_config":7})").ok());
}

std::span<const std::byte> bytes_of(const auto& values) {
  return std::as_bytes(std::span(values));
}

// Anchors of the format, and that codes and values are the same set.
TEST(Fp8, EveryCodeHasItsValue) {
  std::vector<uint8_t> codes;
  for (int code = 0; code < 256; ++code) codes.push_back(static_cast<uint8_t>(code));
  const std::vector<float> scales = {1.0F};
  QuantisedTensor tensor{{QuantMethod::fp8, 128, 256}, bytes_of(codes), bytes_of(scales), DType::f32};
  std::vector<float> out(256);
  dequantise_fp8(tensor, 1, 256, out.data());
  EXPECT_EQ(out[0x00], 0.0F);
  EXPECT_EQ(out[0x01], 0x1p-9F);
  EXPECT_EQ(out[0x07], 7 * 0x1p-9F);
  EXPECT_EQ(out[0x08], 0x1p-6F);
  EXPECT_EQ(out[0x38], 1.0F);
  EXPECT_EQ(out[0x3c], 1.5F);
  EXPECT_EQ(out[0x7e], 448.0F);
  EXPECT_TRUE(std::isnan(out[0x7f]));
  EXPECT_TRUE(std::isnan(out[0xff]));
  for (size_t code = 0; code < 127; ++code) {
    EXPECT_GT(out[code], code == 0 ? -1.0F : out[code - 1]);
    EXPECT_EQ(out[code + 128], -out[code]);
  }
}

// Scales by block, the last ones part full, in each of their types and at an odd address.
TEST(Fp8, BlocksOfRowsAndColumns) {
  const int64_t n = 7;
  const int64_t k = 11;
  std::vector<uint8_t> codes;
  SplitMix64 random(4);
  for (int64_t i = 0; i < n * k; ++i) codes.push_back(static_cast<uint8_t>(random.below(127)));
  std::vector<float> plain(codes.size());
  const std::vector<float> one = {1.0F};
  dequantise_fp8({{QuantMethod::fp8, 64, 64}, bytes_of(codes), bytes_of(one), DType::f32}, n, k,
                 plain.data());
  const std::vector<float> scales = {0.5F, 2.0F, -1.0F, 3.0F, 0.25F, 1.5F};  // [3, 2]: blocks of 3 x 6
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    std::vector<std::byte> stored(1 + scales.size() * size_of(dtype));
    for (size_t i = 0; i < scales.size(); ++i) {
      if (dtype == DType::f32) {
        std::memcpy(&stored[1 + 4 * i], &scales[i], 4);
      } else {
        const uint16_t bits = dtype == DType::f16 ? to_float16(scales[i]).bits : to_bfloat16(scales[i]).bits;
        std::memcpy(&stored[1 + 2 * i], &bits, 2);
      }
    }
    std::vector<float> out(codes.size());
    dequantise_fp8({{QuantMethod::fp8, 3, 6}, bytes_of(codes), std::span(stored).subspan(1), dtype}, n, k,
                   out.data());
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t column = 0; column < k; ++column) {
        const auto at = static_cast<size_t>(row * k + column);
        EXPECT_EQ(out[at], plain[at] * scales[static_cast<size_t>(row / 3 * 2 + column / 6)]) << at;
      }
    }
  }
}

TEST(Mxfp4, LowNibbleFirstAndScalesArePowersOfTwo) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 3; ++i) {
    for (int pair = 0; pair < 16; ++pair) {
      codes.push_back(static_cast<uint8_t>(pair | (15 - pair) << 4));
    }
  }
  const std::vector<uint8_t> scales = {127, 130, 120};
  const float lut[] = {0, .5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -.5F, -1, -1.5F, -2, -3, -4, -6};
  std::vector<BFloat16> out(96);
  dequantise_mxfp4({{QuantMethod::mxfp4, 0, 0}, bytes_of(codes), bytes_of(scales), DType::u8}, out.data());
  for (size_t block = 0; block < 3; ++block) {
    const float scale = block == 0 ? 1.0F : block == 1 ? 8.0F : 0x1p-7F;
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(to_float(out[32 * block + 2 * i]), lut[i] * scale);
      EXPECT_EQ(to_float(out[32 * block + 2 * i + 1]), lut[15 - i] * scale);
    }
  }
}

TEST(Mxfp4, EveryScaleButTheLargestIsExact) {
  const std::vector<uint8_t> codes(16, 0x71);  // 0.5 and 6
  for (int scale = 0; scale < 253; ++scale) {
    const std::vector<uint8_t> scales = {static_cast<uint8_t>(scale)};
    std::vector<BFloat16> out(32);
    dequantise_mxfp4({{QuantMethod::mxfp4, 0, 0}, bytes_of(codes), bytes_of(scales), DType::u8}, out.data());
    EXPECT_EQ(to_float(out[0]), std::ldexp(0.5, scale - 127)) << scale;
    EXPECT_EQ(to_float(out[1]), std::ldexp(6.0, scale - 127)) << scale;
  }
}

FileTensor raw(std::string name, std::string dtype, std::vector<int64_t> shape, std::string bytes) {
  return {std::move(name), std::move(dtype), std::move(shape), std::move(bytes)};
}

class QuantisedCheckpoint : public ::testing::Test {
 protected:
  Expected<Checkpoint> open(const std::vector<FileTensor>& tensors, const Quantisation& quantisation) {
    write_text(directory.file("model.safetensors"), safetensors_bytes(tensors));
    return Checkpoint::open(directory.path(), quantisation);
  }
  void expect_error(const std::vector<FileTensor>& tensors, const Quantisation& quantisation,
                    std::string_view part) {
    const auto checkpoint = open(tensors, quantisation);
    ASSERT_FALSE(checkpoint.ok()) << part;
    EXPECT_NE(checkpoint.status().message().find(part), std::string::npos) << checkpoint.status().message();
  }
  static std::set<std::string> names(const Checkpoint& checkpoint) {
    std::set<std::string> out;
    for (const auto& [name, entry] : checkpoint.entries()) out.insert(name);
    return out;
  }
  TemporaryDirectory directory;
};

constexpr Quantisation kFp8 = {QuantMethod::fp8, 2, 2};
constexpr Quantisation kMxfp4 = {QuantMethod::mxfp4, 0, 0};

TEST_F(QuantisedCheckpoint, Fp8TensorsStandForF32) {
  const std::vector<FileTensor> tensors = {
      f32_tensor("a", {1}, {3}),
      raw("w.weight", "F8_E4M3", {3, 2}, "\x38\x38\x40\x38\x38\x40"),
      f32_tensor("w.weight_scale_inv", {2, 1}, {10, 100}),
  };
  auto checkpoint = open(tensors, kFp8);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(names(*checkpoint), (std::set<std::string>{"a", "w.weight"}));
  EXPECT_EQ(checkpoint->find("w.weight")->dtype, DType::f32);
  EXPECT_EQ(checkpoint->num_bytes(), 4U + 24U);
  EXPECT_FALSE(checkpoint->same_values("w.weight", "w.weight"));
  const Checkpoint moved = std::move(*checkpoint);
  Tensor staging;
  const int64_t shape[] = {3, 2};
  const auto view = const_cast<Checkpoint&>(moved).read("w.weight", shape, staging);
  ASSERT_TRUE(view.ok()) << view.status().message();
  const float* values = view->as<float>();
  EXPECT_EQ(std::vector<float>(values, values + 6), (std::vector<float>{10, 10, 20, 10, 100, 200}));
  const int64_t other[] = {2, 3};
  EXPECT_FALSE(const_cast<Checkpoint&>(moved).read("w.weight", other, staging).ok());
}

TEST_F(QuantisedCheckpoint, Fp8ScalesMustFit) {
  const FileTensor values = raw("w.weight", "F8_E4M3", {3, 2}, std::string(6, '8'));
  expect_error({values}, kFp8, "\"w.weight_scale_inv\"");
  expect_error({values, f32_tensor("w.weight_scale_inv", {1, 1}, {1})}, kFp8,
               "has shape [1,1], expected [2,1]");
  expect_error({values, raw("w.weight_scale_inv", "I32", {2, 1}, std::string(8, '\0'))}, kFp8, "is i32");
  expect_error({raw("w.weight", "F8_E4M3", {6}, std::string(6, '8')),
                f32_tensor("w.weight_scale_inv", {3}, {1, 1, 1})},
               kFp8, "two dimensions");
  expect_error(
      {raw("w.weight", "F8_E4M3", {0, int64_t{1} << 62}, ""), f32_tensor("w.weight_scale_inv", {0, 1}, {})},
      kFp8, "two dimensions");
}

TEST_F(QuantisedCheckpoint, Mxfp4TensorsStandForTransposedBf16) {
  // Two experts of [N, K] = [3, 32]: the scale tells expert and row.
  std::string scales, blocks;
  for (int e = 0; e < 2; ++e) {
    for (int n = 0; n < 3; ++n) {
      scales += static_cast<char>(127 + 3 * e + n);
      for (int i = 0; i < 16; ++i) blocks += static_cast<char>(i % 8 | 0x20);
    }
  }
  auto checkpoint =
      open({raw("x_blocks", "U8", {2, 3, 1, 16}, blocks), raw("x_scales", "U8", {2, 3, 1}, scales)}, kMxfp4);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(names(*checkpoint), (std::set<std::string>{"x"}));
  EXPECT_EQ(checkpoint->find("x")->shape, (std::vector<int64_t>{2, 32, 3}));
  EXPECT_EQ(checkpoint->find("x")->dtype, DType::bf16);
  Tensor staging;
  const auto view = checkpoint->read("x", checkpoint->find("x")->shape, staging);
  ASSERT_TRUE(view.ok()) << view.status().message();
  const float lut[] = {0, .5F, 1, 1.5F, 2, 3, 4, 6};
  for (int64_t e = 0; e < 2; ++e) {
    for (int64_t k = 0; k < 32; ++k) {
      for (int64_t n = 0; n < 3; ++n) {
        const int64_t at = e * view->strides[0] + k * view->strides[1] + n * view->strides[2];
        const float value = k % 2 == 0 ? lut[k / 2 % 8] : 1.0F;
        EXPECT_EQ(to_float(view->as<BFloat16>()[at]), std::ldexp(value, static_cast<int>(3 * e + n)));
      }
    }
  }
}

TEST_F(QuantisedCheckpoint, Mxfp4PartsMustFit) {
  const FileTensor blocks = raw("x_blocks", "U8", {2, 1, 16}, std::string(32, '1'));
  const FileTensor scales = raw("x_scales", "U8", {2, 1}, "ab");
  expect_error({blocks}, kMxfp4, "\"x_scales\"");
  expect_error({blocks, raw("x_scales", "U8", {1, 2}, "ab")}, kMxfp4, "has shape [1,2], expected [2,1]");
  expect_error({blocks, f32_tensor("x_scales", {2, 1}, {1, 1})}, kMxfp4, "in u8");
  expect_error({raw("x_blocks", "U8", {2, 2, 8}, std::string(32, '1')), scales}, kMxfp4, "16]");
  expect_error({raw("x_blocks", "U8", {0, int64_t{1} << 58, 16}, ""), raw("x_scales", "U8", {0, 1}, "")},
               kMxfp4, "16]");
  expect_error({blocks, scales, f32_tensor("x", {1}, {1})}, kMxfp4, "both present");
  // Without the setting they are tensors like others.
  EXPECT_TRUE(open({blocks, scales}, {})->has("x_blocks"));
}

}  // namespace
}  // namespace bifocal::weights
