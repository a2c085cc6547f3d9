#include "engine/sampling_params.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace bifocal::engine {
namespace {

constexpr int kVocab = 100;

TEST(SamplingParams, DefaultsAreValid) {
  EXPECT_TRUE(validate({}, kVocab).ok());
}

TEST(SamplingParams, EdgesAreValid) {
  SamplingParams p;
  p.temperature = 0;
  p.top_p = 1e-9;
  p.top_k = 1 << 30;
  p.min_p = 1;
  p.repetition_penalty = 2;
  p.frequency_penalty = -2;
  p.presence_penalty = 2;
  p.logit_bias = {{0, -100.0F}, {99, 100.0F}};
  p.max_new_tokens = 0;
  p.stop = {std::string(256, 'x')};
  p.stop_token_ids = {99};
  p.n = 16;
  EXPECT_TRUE(validate(p, kVocab).ok()) << validate(p, kVocab).message();
}

TEST(SamplingParams, WhatIsOutOfRangeIsRefusedByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  struct Case {
    const char* field;
    std::function<void(SamplingParams&)> set;
  };
  const Case cases[] = {
      {"temperature", [](auto& p) { p.temperature = -0.1; }},
      {"temperature", [&](auto& p) { p.temperature = nan; }},
      {"temperature", [&](auto& p) { p.temperature = inf; }},
      {"top_p", [](auto& p) { p.top_p = 0; }},
      {"top_p", [](auto& p) { p.top_p = 1.01; }},
      {"top_p", [&](auto& p) { p.top_p = nan; }},
      {"top_k", [](auto& p) { p.top_k = -2; }},
      {"min_p", [](auto& p) { p.min_p = -0.1; }},
      {"min_p", [&](auto& p) { p.min_p = nan; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 2.1; }},
      {"repetition_penalty", [&](auto& p) { p.repetition_penalty = nan; }},
      {"frequency_penalty", [](auto& p) { p.frequency_penalty = 2.1; }},
      {"presence_penalty", [](auto& p) { p.presence_penalty = -2.1; }},
      {"presence_penalty", [&](auto& p) { p.presence_penalty = nan; }},
      {"max_new_tokens", [](auto& p) { p.max_new_tokens = -1; }},
      {"min_new_tokens", [](auto& p) { p.min_new_tokens = -1; }},
      {"min_new_tokens", [](auto& p) { p.min_new_tokens = p.max_new_tokens + 1; }},
      {"n is", [](auto& p) { p.n = 0; }},
      {"n is", [](auto& p) { p.n = 17; }},
      {"n is", [](auto& p) { p.n = 1'000'000'000; }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{100, 0.0F}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{-1, 0.0F}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{1, 101.0F}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{1, std::nanf("")}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias.assign(1025, {1, 0.0F});
       }},
      {"stop", [](auto& p) { p.stop.assign(17, "x"); }},
      {"stop", [](auto& p) { p.stop = {""}; }},
      {"stop", [](auto& p) { p.stop = {std::string(257, 'x')}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids = {100}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids = {-1}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids.assign(257, 1); }},
  };
  for (const Case& c : cases) {
    SamplingParams p;
    c.set(p);
    const Status status = validate(p, kVocab);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << c.field;
    EXPECT_EQ(status.message().rfind(c.field, 0), 0U) << status.message();
  }
}

}  // namespace
}  // namespace bifocal::engine
