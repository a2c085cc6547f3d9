#include "weights/rope_config.h"

#include <gtest/gtest.h>

namespace bifocal::weights {
namespace {

Expected<RopeConfig> parse(std::string_view text) {
  const auto document = parse_json(text);
  EXPECT_TRUE(document.ok()) << text;
  const auto reader = JsonReader::open(*document);
  EXPECT_TRUE(reader.ok());
  return parse_rope_config(*reader);
}

RopeConfig good(std::string_view text) {
  const auto config = parse(text);
  EXPECT_TRUE(config.ok()) << text << ": " << config.status().message();
  return config.ok() ? *config : RopeConfig{};
}

void expect_error(std::string_view text, std::string_view part) {
  const auto config = parse(text);
  ASSERT_FALSE(config.ok()) << text;
  EXPECT_NE(config.status().message().find(part), std::string::npos) << config.status().message();
}

TEST(RopeConfig, AbsentMeansPlain) {
  EXPECT_EQ(good("{}"), RopeConfig{});
  EXPECT_EQ(good(R"({"rope_scaling":null,"rope_parameters":null})"), RopeConfig{});
  EXPECT_DOUBLE_EQ(good(R"({"rope_theta":500000})").theta, 5e5);
}

TEST(RopeConfig, BothSpellingsGiveTheSame) {
  const RopeConfig old = good(R"({"rope_theta":1e6,"rope_scaling":{"type":"yarn","factor":4.0,
                                  "original_max_position_embeddings":32768}})");
  EXPECT_EQ(old.type, RopeType::yarn);
  EXPECT_DOUBLE_EQ(old.theta, 1e6);
  EXPECT_DOUBLE_EQ(old.factor, 4.0);
  EXPECT_EQ(old.original_max_positions, 32768);
  EXPECT_TRUE(old.truncate);
  EXPECT_EQ(old, good(R"({"rope_parameters":{"rope_type":"yarn","rope_theta":1000000.0,"factor":4.0,
                          "original_max_position_embeddings":32768}})"));
  EXPECT_EQ(old, good(R"({"rope_theta":1e6,"rope_scaling":{"type":"yarn","rope_type":"yarn","factor":4,
                          "original_max_position_embeddings":32768}})"));
  // Both present and equal.
  EXPECT_EQ(old, good(R"({"rope_theta":1e6,"rope_scaling":{"type":"yarn","factor":4,
                          "original_max_position_embeddings":32768},
                          "rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4,
                          "original_max_position_embeddings":32768}})"));
  EXPECT_EQ(old, good(R"({"rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":32768},
                          "rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4,
                          "original_max_position_embeddings":32768}})"));
}

TEST(RopeConfig, ContradictionsAreErrors) {
  expect_error(
      R"({"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"linear","factor":4}})",
      "both present and differ");
  expect_error(R"({"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_theta":1e6}})",
               "both present and differ");
  expect_error(R"({"rope_theta":1e4,"rope_parameters":{"rope_theta":1e6}})", "rope_theta: got 10000");
  expect_error(R"({"rope_scaling":{"type":"linear","rope_type":"yarn","factor":2}})", "differ");
}

TEST(RopeConfig, ReadsLlama3) {
  const RopeConfig config =
      good(R"({"rope_theta":500000.0,"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,
      "low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}})");
  EXPECT_EQ(config.type, RopeType::llama3);
  EXPECT_DOUBLE_EQ(config.factor, 32.0);
  EXPECT_DOUBLE_EQ(config.low_freq_factor, 1.0);
  EXPECT_DOUBLE_EQ(config.high_freq_factor, 4.0);
  EXPECT_EQ(config.original_max_positions, 8192);
}

TEST(RopeConfig, ReadsYarnsOptions) {
  const RopeConfig config =
      good(R"({"rope_parameters":{"rope_type":"yarn","factor":40,"beta_fast":16,"beta_slow":2,
      "mscale":1.0,"mscale_all_dim":0.707,"attention_factor":1.5,"truncate":false,"rope_theta":10000}})");
  EXPECT_DOUBLE_EQ(config.beta_fast, 16.0);
  EXPECT_DOUBLE_EQ(config.beta_slow, 2.0);
  EXPECT_DOUBLE_EQ(config.mscale, 1.0);
  EXPECT_DOUBLE_EQ(config.mscale_all_dim, 0.707);
  EXPECT_EQ(config.attention_factor, 1.5);
  EXPECT_FALSE(config.truncate);
  EXPECT_FALSE(config.original_max_positions);
  // Zero and null stand for the defaults.
  const RopeConfig zeros =
      good(R"({"rope_parameters":{"rope_type":"yarn","factor":40,"beta_fast":0,"beta_slow":null,
      "mscale":0,"attention_factor":null}})");
  EXPECT_DOUBLE_EQ(zeros.beta_fast, 32.0);
  EXPECT_DOUBLE_EQ(zeros.beta_slow, 1.0);
  EXPECT_FALSE(zeros.attention_factor);
}

TEST(RopeConfig, UnknownTypesAndKeys) {
  expect_error(
      R"({"rope_scaling":{"rope_type":"longrope","factor":2}})",
      "rope_scaling.rope_type: \"longrope\" is not supported; expected one of default, linear, llama3, yarn");
  expect_error(R"({"rope_scaling":{"type":"dynamic","factor":2}})", "rope_scaling.type");
  expect_error(R"({"rope_parameters":{"rope_type":"default","mrope_section":[1]}})",
               "rope_parameters.mrope_section");
  expect_error(R"({"rope_parameters":{"full_attention":{"rope_type":"default"}}})",
               "rope_parameters.full_attention");
  expect_error(R"({"rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}})",
               "partial_rotary_factor");
}

TEST(RopeConfig, MissingAndHostileFields) {
  expect_error(R"({"rope_scaling":{"rope_type":"linear"}})", "rope_scaling.factor: missing");
  expect_error(R"({"rope_scaling":{"rope_type":"yarn"}})", "rope_scaling.factor: missing");
  expect_error(R"({"rope_scaling":{"rope_type":"linear","factor":0}})", "rope_scaling.factor");
  expect_error(R"({"rope_scaling":{"rope_type":"linear","factor":-4}})", "rope_scaling.factor");
  expect_error(R"({"rope_scaling":{"rope_type":"linear","factor":"4"}})", "rope_scaling.factor");
  expect_error(R"({"rope_scaling":{"rope_type":"linear","factor":1e30}})", "rope_scaling.factor");
  expect_error(R"({"rope_scaling":{"rope_type":7,"factor":1}})", "rope_scaling.rope_type");
  expect_error(R"({"rope_scaling":[]})", "rope_scaling");
  expect_error(R"({"rope_parameters":"yarn"})", "rope_parameters");
  expect_error(R"({"rope_parameters":{"rope_theta":0}})", "rope_parameters.rope_theta");
  expect_error(
      R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}})",
      "original_max_position_embeddings: missing");
  expect_error(R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,
                   "original_max_position_embeddings":8192}})",
               "high_freq_factor");
  expect_error(R"({"rope_scaling":{"rope_type":"yarn","factor":8,"original_max_position_embeddings":0}})",
               "original_max_position_embeddings");
  expect_error(R"({"rope_scaling":{"rope_type":"yarn","factor":8,"beta_fast":1,"beta_slow":32}})",
               "beta_fast");
}

}  // namespace
}  // namespace bifocal::weights
