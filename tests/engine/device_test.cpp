// An engine whose model computes elsewhere: tokens are chosen there where they can be, logits reach the host
// only where they are asked for, and a device can fail for good.
#include <gtest/gtest.h>

#include <latch>

#include "engine/remote_executor.h"

namespace bifocal::engine {
namespace {

const std::vector<int32_t> kPrompt = {4, 8, 15, 16, 23, 42, 7};

struct Kind {
  const char* what;
  void (*change)(GenerateRequest& request);
};

TEST(Device, ChoosesTheTokensOfRowsThatNeverReachTheHost) {
  const Kind kinds[] = {
      {"greedy", [](GenerateRequest&) {}},
      {"temperature", [](GenerateRequest& r) { r.sampling.temperature = 0.9; }},
      {"truncated",
       [](GenerateRequest& r) {
         r.sampling.temperature = 1.3;
         r.sampling.top_k = 30;
         r.sampling.top_p = 0.9;
         r.sampling.min_p = 0.01;
       }},
  };
  for (const Kind& each : kinds) {
    FakeEngine local;
    RemoteEngine remote;
    auto request = greedy_request("r", kPrompt, 20);
    request.sampling.seed = 77;
    each.change(request);
    EXPECT_EQ(remote.generate(request).tokens, local.generate(request).tokens) << each.what;
    EXPECT_EQ(remote.behaviour.read_rows, 0) << each.what;
    EXPECT_EQ(remote.behaviour.rows, 20) << each.what;
  }
}

TEST(Device, IdleTimeIsCountedBetweenStepsThatFollowOneAnother) {
  RemoteEngine remote;
  remote.behaviour.idle_ns = 1000;
  for (uint64_t request = 1; request <= 3; ++request) {
    remote.generate(greedy_request("r", kPrompt, 20));
    ASSERT_TRUE(wait_idle(*remote.engine));
    const auto stats = remote.engine->stats();
    EXPECT_EQ(stats->device_gaps, 19 * request) << "the first step of a request has a pause before it";
    EXPECT_EQ(stats->device_idle_ns, static_cast<int64_t>(19'000 * request));
  }
}

// Their first tokens come from one row: the host draws those that the device didn't.
TEST(Device, ChoicesThatShareARowDrawTheirOwnTokens) {
  FakeEngine local;
  RemoteEngine remote;
  auto request = greedy_request("r", kPrompt, 8);
  request.sampling.temperature = 1.5;
  request.sampling.n = 5;
  auto here = local.submit(request);
  auto there = remote.submit(request);
  ASSERT_TRUE(here->wait() && there->wait());
  for (int choice = 0; choice < 5; ++choice) {
    EXPECT_EQ(there->output(choice).tokens, here->output(choice).tokens) << "choice " << choice;
  }
  EXPECT_NE(here->output(0).tokens, here->output(1).tokens);
  EXPECT_EQ(remote.behaviour.read_rows, 1);
}

TEST(Device, WhatNeedsLogitsGetsThem) {
  const Kind cases[] = {
      {"logprobs", [](GenerateRequest& r) { r.return_logprob = true; }},
      {"sampled logprobs",
       [](GenerateRequest& r) {
         r.sampling.temperature = 1;
         r.return_logprob = true;
       }},
      {"end tokens banned",
       [](GenerateRequest& r) {
         r.sampling.ignore_eos = false;
         r.sampling.min_new_tokens = 12;
       }},
      {"penalty", [](GenerateRequest& r) { r.sampling.frequency_penalty = 1.5; }},
      {"bias",
       [](GenerateRequest& r) {
         r.sampling.logit_bias = {{3, 50.0F}};
       }},
      {"prompt logprobs",
       [](GenerateRequest& r) {
         r.return_logprob = true;
         r.logprob_start_len = 0;
       }},
  };
  for (const Kind& each : cases) {
    FakeEngine local;
    RemoteEngine remote;
    auto request = greedy_request("r", kPrompt, 12);
    request.sampling.seed = 5;
    each.change(request);
    const auto expected = local.generate(request);
    const auto got = remote.generate(request);
    EXPECT_EQ(got.tokens, expected.tokens) << each.what;
    ASSERT_EQ(got.details.size(), expected.details.size()) << each.what;
    for (size_t i = 0; i < got.details.size(); ++i) {
      EXPECT_EQ(got.details[i].logprob, expected.details[i].logprob) << each.what << " token " << i;
    }
    EXPECT_GE(remote.behaviour.read_rows, 12) << each.what;
  }
}

TEST(Device, AnUnsoundRowEndsThatRequestAlone) {
  RemoteEngine remote;
  remote.behaviour.empty_after = {59};
  auto good = remote.submit(greedy_request("good", {1, 2, 3}, 1));
  auto bad = remote.submit(greedy_request("bad", {1, 2, 59}, 1));
  ASSERT_TRUE(good->wait() && bad->wait());
  EXPECT_EQ(good->output().last.finish, FinishReason::length);
  EXPECT_EQ(bad->output().last.finish, FinishReason::error);
  EXPECT_FALSE(remote.engine->failed());
}

// Whether it says so when a step is handed over or when results are asked for: once, with a second step in
// flight.
TEST(Device, AFailedDeviceEndsEveryStream) {
  for (const bool at_submit : {true, false}) {
    std::latch submitted(1);
    RemoteEngine remote;
    (at_submit ? remote.behaviour.refuse_at : remote.behaviour.fail_at) = 5;
    remote.behaviour.submitted = &submitted;
    std::vector<std::shared_ptr<Collector>> collectors;
    for (int i = 0; i < 20; ++i) {
      collectors.push_back(remote.submit(greedy_request("r" + std::to_string(i), {1, 2, i}, 50)));
    }
    submitted.count_down();
    for (auto& collector : collectors) {
      ASSERT_TRUE(collector->wait());
      EXPECT_TRUE(collector->complaints().empty());
      EXPECT_EQ(collector->output().last.finish, FinishReason::error);
      EXPECT_NE(collector->output().last.error.message().find("cudaErrorIllegalAddress"), std::string::npos);
    }
    EXPECT_TRUE(remote.engine->failed());
    EXPECT_GT(remote.behaviour.overlapped, 0);
    EXPECT_EQ(remote.engine->submit(greedy_request("late", {1}, 1), [](OutputEvent) {}).code(),
              StatusCode::unavailable);
  }
}

TEST(Device, AFailedPageCopyEndsEveryStream) {
  RemoteEngine remote;
  remote.behaviour.copy_error = internal_error("copying a page: cudaErrorECCUncorrectable");
  const std::vector<int32_t> shared = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(remote.generate(greedy_request("first", shared, 4)).last.finish, FinishReason::length);
  auto request = greedy_request("second", shared, 4);
  request.prompt_ids.push_back(9);  // shares a page and a half
  const auto output = remote.generate(request);
  EXPECT_EQ(output.last.finish, FinishReason::error);
  EXPECT_NE(output.last.error.message().find("cudaErrorECCUncorrectable"), std::string::npos);
  EXPECT_TRUE(remote.engine->failed());
}

}  // namespace
}  // namespace bifocal::engine
