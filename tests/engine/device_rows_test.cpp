#include "engine/device_rows.h"

#include <gtest/gtest.h>

namespace bifocal::engine {
namespace {

SampleTask task_of(const SamplingParams& params, uint64_t seed = 1) {
  SampleTask task;
  task.params = &params;
  task.seed = seed;
  task.position = 12;
  return task;
}

SampleTask given(int32_t token) {
  SampleTask task;
  task.given = token;
  return task;
}

TEST(DeviceParams, SayWhatADeviceCanDraw) {
  SamplingParams params;
  params.temperature = 0.7;
  params.top_p = 0.8;
  params.top_k = 20;
  params.min_p = 0.05;
  EXPECT_EQ(device_params(task_of(params, 9)), (kernels::SampleParams{9, 0.7, 0.8, 0.05, 20, 12}));
  params.temperature = 0;
  EXPECT_EQ(device_params(task_of(params, 9)), kernels::SampleParams{}) << "seeds don't matter";
  params.temperature = 1;
  params.top_k = 1;
  EXPECT_EQ(device_params(task_of(params, 9)), kernels::SampleParams{});
}

TEST(DeviceParams, WhatChangesOrReportsLogitsIsTheHosts) {
  const auto refused = [](auto change) {
    SamplingParams params;
    SampleTask task = task_of(params);
    EXPECT_TRUE(device_params(task).has_value());
    change(params, task);
    return !device_params(task).has_value();
  };
  const std::vector<int32_t> banned = {2};
  EXPECT_TRUE(refused([](SamplingParams&, SampleTask& t) { t.logprob = true; }));
  EXPECT_TRUE(refused([&](SamplingParams&, SampleTask& t) { t.banned = banned; }));
  EXPECT_TRUE(refused([](SamplingParams& p, SampleTask&) { p.logit_bias = {{3, 1.0F}}; }));
  EXPECT_TRUE(refused([](SamplingParams& p, SampleTask&) { p.repetition_penalty = 1.1; }));
  EXPECT_TRUE(refused([](SamplingParams& p, SampleTask&) { p.frequency_penalty = 0.5; }));
  EXPECT_TRUE(refused([](SamplingParams& p, SampleTask&) { p.presence_penalty = -0.5; }));
}

TEST(DeviceRows, OneWayToChooseForEachRow) {
  SamplingParams sampled;
  SamplingParams greedy;
  greedy.temperature = 0;
  SampleTask scored = given(5);
  scored.logprob = true;
  DeviceRows rows;
  rows.reset(4);
  EXPECT_TRUE(rows.add(0, task_of(sampled, 3)));
  EXPECT_TRUE(rows.add(0, given(0))) << "any choice tells whether a row is sound";
  EXPECT_TRUE(rows.add(1, task_of(greedy, 3)));
  EXPECT_TRUE(rows.add(1, task_of(greedy, 4))) << "greedy choices are alike";
  EXPECT_TRUE(rows.add(2, given(0)));
  EXPECT_TRUE(rows.add(2, task_of(sampled, 3))) << "a given token takes no row";
  EXPECT_FALSE(rows.add(2, task_of(sampled, 4))) << "another seed";
  EXPECT_FALSE(rows.add(3, scored));
  EXPECT_TRUE(rows.add(3, task_of(sampled, 8))) << "read anyway, chosen there all the same";
  const auto read = rows.read_logits();
  EXPECT_EQ(std::vector<uint8_t>(read.begin(), read.end()), (std::vector<uint8_t>{0, 0, 1, 1}));
  EXPECT_EQ(rows.sampling()[0].seed, 3U);
  EXPECT_EQ(rows.sampling()[1], kernels::SampleParams{});
  EXPECT_EQ(rows.sampling()[2].seed, 3U);
  EXPECT_EQ(rows.sampling()[3].seed, 8U);
  rows.reset(1);
  EXPECT_EQ(rows.sampling().size(), 1U);
  EXPECT_EQ(rows.read_logits()[0], 0);
  EXPECT_EQ(rows.sampling()[0], kernels::SampleParams{});
}

}  // namespace
}  // namespace bifocal::engine
