#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace bifocal::model {
namespace {

using weights::RopeConfig;
using weights::RopeType;

void expect_frequencies(const RopeSpec& rope, const std::vector<std::pair<size_t, double>>& anchors) {
  for (const auto& [j, expected] : anchors) {
    ASSERT_LT(j, rope.inv_freq.size());
    EXPECT_NEAR(rope.inv_freq[j], expected, std::abs(expected) * 1e-6) << "pair " << j;
  }
}

RopeConfig yarn(double theta, double factor, int64_t original) {
  RopeConfig config;
  config.type = RopeType::yarn;
  config.theta = theta;
  config.factor = factor;
  config.original_max_positions = original;
  return config;
}

TEST(Rope, Plain) {
  const RopeSpec rope = make_rope({}, 64, 4096);
  EXPECT_EQ(rope.rotary_dim, 64);
  EXPECT_EQ(rope.inv_freq.size(), 32U);
  EXPECT_EQ(rope.attention_factor, 1.0F);
  expect_frequencies(rope, {{0, 1.0}, {16, 1e-2}, {31, std::pow(10000.0, -62.0 / 64.0)}});
}

TEST(Rope, LinearDividesEveryFrequency) {
  RopeConfig config;
  config.type = RopeType::linear;
  config.factor = 4;
  const RopeSpec plain = make_rope({}, 32, 4096);
  const RopeSpec linear = make_rope(config, 32, 4096);
  for (size_t j = 0; j < 16; ++j) EXPECT_FLOAT_EQ(linear.inv_freq[j] * 4.0F, plain.inv_freq[j]);
}

TEST(Rope, YarnOfGptOss) {
  RopeConfig config = yarn(150000, 32, 4096);
  config.truncate = false;
  const RopeSpec rope = make_rope(config, 64, 131072);
  EXPECT_NEAR(rope.attention_factor, 1.3465735903, 1e-6);
  expect_frequencies(rope, {{0, 1.0},
                            {8, 5.081327481546e-02},
                            {9, 3.170569618466e-02},
                            {12, 6.794959489732e-03},
                            {16, 4.564839192232e-04},
                            {17, 1.293187012451e-04},
                            {18, 3.830881237375e-05},
                            {31, 3.023511428119e-07}});
  config.truncate = true;
  expect_frequencies(make_rope(config, 64, 131072), {{12, 7.015713910504e-03}, {17, 2.279477957951e-04}});
}

TEST(Rope, YarnOfDeepSeekV3) {
  RopeConfig config = yarn(10000, 40, 4096);
  config.mscale = 1.0;
  config.mscale_all_dim = 1.0;
  const RopeSpec rope = make_rope(config, 64, 163840);
  EXPECT_FLOAT_EQ(rope.attention_factor, 1.0F);
  expect_frequencies(rope, {{10, 5.623413251903e-02},
                            {11, 3.900692656714e-02},
                            {16, 5.5e-03},
                            {22, 1.778279410039e-04},
                            {23, 3.333803580408e-05},
                            {31, 3.333803580408e-06}});
}

TEST(Rope, YarnOfQwen3TimesFour) {
  const RopeSpec rope = make_rope(yarn(1e6, 4, 32768), 128, 40960);
  EXPECT_NEAR(rope.attention_factor, 1.1386294361, 1e-6);
  expect_frequencies(rope, {{20, 1.333521432163e-02},
                            {30, 1.064360981247e-03},
                            {40, 4.445698525097e-05},
                            {63, 3.102344401879e-07}});
}

TEST(Rope, YarnTakesTheOriginalContextFromTheConfigOrTheModel) {
  RopeConfig config = yarn(1e6, 4, 32768);
  const RopeSpec given = make_rope(config, 128, 999);
  config.original_max_positions.reset();
  EXPECT_EQ(make_rope(config, 128, 32768).inv_freq, given.inv_freq);
  EXPECT_NE(make_rope(config, 128, 999).inv_freq, given.inv_freq);
}

TEST(Rope, YarnAttentionFactor) {
  RopeConfig config = yarn(1e4, 40, 4096);
  EXPECT_NEAR(make_rope(config, 64, 4096).attention_factor, 0.1 * std::log(40.0) + 1, 1e-6);
  config.mscale = 0.707;  // alone it is not used
  EXPECT_NEAR(make_rope(config, 64, 4096).attention_factor, 0.1 * std::log(40.0) + 1, 1e-6);
  config.mscale_all_dim = 1.0;
  EXPECT_NEAR(make_rope(config, 64, 4096).attention_factor, 1.2608037774 / 1.3688879454, 1e-6);
  config.attention_factor = 1.25;
  EXPECT_FLOAT_EQ(make_rope(config, 64, 4096).attention_factor, 1.25F);
}

TEST(Rope, YarnWithAnEmptyBandStaysFinite) {
  RopeConfig config = yarn(1e4, 4, 1);  // every frequency turns less than once
  for (const float f : make_rope(config, 8, 1).inv_freq) EXPECT_TRUE(std::isfinite(f));
}

TEST(Rope, Llama31) {
  RopeConfig config;
  config.type = RopeType::llama3;
  config.theta = 5e5;
  config.factor = 8;
  config.low_freq_factor = 1;
  config.high_freq_factor = 4;
  config.original_max_positions = 8192;
  const RopeSpec rope = make_rope(config, 128, 131072);
  EXPECT_EQ(rope.attention_factor, 1.0F);
  expect_frequencies(rope, {{28, 3.211445994753e-03},
                            {29, 2.166570763503e-03},
                            {30, 1.371893567761e-03},
                            {31, 8.567514129196e-04},
                            {34, 1.785078127680e-04},
                            {35, 9.556212353965e-05},
                            {63, 3.068925988915e-07}});
}

}  // namespace
}  // namespace bifocal::model
