#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace bifocal {
namespace {

TEST(DType, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Float16 half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_float16(value))));
    } else {
      ASSERT_EQ(to_float16(value).bits, half.bits) << bits;
    }
  }
}

TEST(DType, EveryBFloat16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const BFloat16 v{static_cast<uint16_t>(bits)};
    const float value = to_float(v);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_bfloat16(value))));
    } else {
      ASSERT_EQ(to_bfloat16(value).bits, v.bits) << bits;
    }
  }
}

TEST(DType, RoundsToNearestEven) {
  EXPECT_EQ(to_float(to_bfloat16(1.0F + 0x1p-8F)), 1.0F);              // a tie goes to the even mantissa
  EXPECT_EQ(to_float(to_bfloat16(1.0F + 0x1.8p-7F)), 1.0F + 0x1p-6F);  // a tie goes up to the even one
  EXPECT_EQ(to_float(to_float16(1.0F + 0x1p-11F)), 1.0F);
  EXPECT_EQ(to_float(to_float16(1.0F + 0x1.8p-10F)), 1.0F + 0x1p-9F);
  EXPECT_EQ(to_float(to_float16(65519.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(to_float(to_float16(65520.0F))));
  EXPECT_EQ(to_float(to_float16(0x1p-25F)), 0.0F);
  EXPECT_EQ(to_float(to_float16(0x1.8p-25F)), 0x1p-24F);
}

TEST(DType, NamesAndAliases) {
  EXPECT_EQ(*parse_dtype("bfloat16"), DType::bf16);
  EXPECT_EQ(*parse_dtype("half"), DType::f16);
  EXPECT_EQ(*parse_dtype("float"), DType::f32);
  EXPECT_FALSE(parse_dtype("bf17").ok());
  EXPECT_EQ(size_of(DType::bf16), 2U);
}

}  // namespace
}  // namespace bifocal
