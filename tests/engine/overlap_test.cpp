// Steps that are planned and submitted while the one before runs: the same tokens, and nothing left behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <stdexcept>

#include "engine/remote_executor.h"

namespace bifocal::engine {
namespace {

const std::vector<int32_t> kPrompt = {4, 8, 15, 16, 23, 42, 7};

EngineOptions in_turn() {
  EngineOptions options = small_options();
  options.overlap_schedule = false;
  return options;
}

void expect_nothing_left(RemoteEngine& remote) {
  ASSERT_TRUE(wait_idle(*remote.engine));
  const auto stats = remote.engine->stats();
  EXPECT_EQ(stats->free_pages + stats->cached_pages, stats->total_pages);
  EXPECT_TRUE(remote.engine->flush_cache().ok());
}

// Requests that are all there before a step has ended; their tokens.
std::vector<std::vector<int32_t>> generate_together(RemoteEngine& remote,
                                                    const std::vector<GenerateRequest>& requests) {
  std::latch submitted(1);
  remote.behaviour.submitted = &submitted;
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const GenerateRequest& request : requests) collectors.push_back(remote.submit(request));
  submitted.count_down();
  std::vector<std::vector<int32_t>> tokens;
  for (const auto& collector : collectors) {
    EXPECT_TRUE(collector->wait());
    tokens.push_back(collector->output().tokens);
  }
  EXPECT_TRUE(wait_idle(*remote.engine));
  remote.behaviour.submitted = nullptr;
  return tokens;
}

TEST(Overlap, TheNextStepIsSubmittedWhileOneRuns) {
  RemoteEngine apart(in_turn());
  RemoteEngine overlapped;
  EXPECT_FALSE(apart.engine->options().overlap_schedule);
  EXPECT_TRUE(overlapped.engine->options().overlap_schedule);
  const auto expected = apart.generate(greedy_request("r", kPrompt, 20));
  const auto got = overlapped.generate(greedy_request("r", kPrompt, 20));
  EXPECT_EQ(got.tokens, expected.tokens);
  EXPECT_EQ(apart.behaviour.overlapped, 0);
  EXPECT_EQ(overlapped.behaviour.overlapped, 19) << "all steps but the first";
  EXPECT_EQ(overlapped.behaviour.rows, 20) << "the last token is known to be the last";
  expect_nothing_left(overlapped);
}

TEST(Overlap, NotBehindALongStep) {
  for (const size_t prompt_len : {size_t{511}, size_t{512}}) {
    EngineOptions options = small_options();
    options.max_total_tokens = options.chunked_prefill_size = 1024;
    RemoteEngine remote(options);
    remote.generate(greedy_request("r", std::vector<int32_t>(prompt_len, 5), 4));
    EXPECT_EQ(remote.behaviour.steps, 4);
    EXPECT_EQ(remote.behaviour.overlapped, prompt_len < 512 ? 3 : 2);
  }
}

// Behind each request that ends before the last one, one step isn't planned ahead.
TEST(Overlap, ANewcomerFindsTheStepBehindAnEndNotYetPlanned) {
  RemoteEngine remote;
  const std::vector<GenerateRequest> requests = {greedy_request("a", kPrompt, 40),
                                                 greedy_request("b", {1, 2, 3}, 8),
                                                 greedy_request("c", {3, 2, 1}, 12)};
  const auto tokens = generate_together(remote, requests);
  EXPECT_EQ(remote.behaviour.steps, 40);
  EXPECT_EQ(remote.behaviour.overlapped, 39 - 2);
  FakeEngine local;
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(tokens[i], local.generate(requests[i]).tokens) << i;
}

// Who waits already has the place at once: nothing is gained by planning late.
TEST(Overlap, WhoWaitsTakesThePlaceOfWhoEnds) {
  EngineOptions options = small_options();
  options.max_running_requests = 2;
  RemoteEngine remote(options);
  generate_together(remote, {greedy_request("a", kPrompt, 10), greedy_request("b", {1, 2, 3}, 20),
                             greedy_request("c", {3, 2, 1}, 30)});
  EXPECT_GE(remote.behaviour.steps, 40);
  EXPECT_EQ(remote.behaviour.overlapped, remote.behaviour.steps - 2) << "all but the first and one behind b";
}

TEST(Overlap, NotOnAnExecutorThatTakesOneStepAtATime) {
  FakeEngine fake;
  EXPECT_FALSE(fake.engine->options().overlap_schedule);
}

TEST(Overlap, AnEndTokenIsSeenOneRowLate) {
  FakeEngine local;
  const auto whole = local.generate(greedy_request("r", kPrompt, 30)).tokens;
  auto request = greedy_request("r", kPrompt, 30);
  request.sampling.stop_token_ids = {whole[9]};
  const auto first = std::find(whole.begin(), whole.end(), whole[9]);
  const std::vector<int32_t> expected(whole.begin(), first + 1);
  RemoteEngine remote;
  const auto got = remote.generate(request);
  EXPECT_EQ(got.tokens, expected);
  EXPECT_EQ(got.last.finish, FinishReason::stop);
  expect_nothing_left(remote);
  EXPECT_EQ(remote.behaviour.rows, static_cast<int64_t>(expected.size()) + 1);
  EXPECT_EQ(remote.engine->stats()->generated_tokens, expected.size());
}

TEST(Overlap, WhatTheHostChoosesIsWaitedFor) {
  const std::vector<void (*)(GenerateRequest&)> kinds = {
      [](GenerateRequest& r) { r.return_logprob = true; },
      [](GenerateRequest& r) { r.sampling.frequency_penalty = 1.5; },
      [](GenerateRequest& r) {
        r.sampling.logit_bias = {{3, 50.0F}};
      },
      [](GenerateRequest& r) {
        r.sampling.ignore_eos = false;
        r.sampling.min_new_tokens = 12;
      },
  };
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    FakeEngine local;
    RemoteEngine remote;
    auto request = greedy_request("r", kPrompt, 12);
    kinds[kind](request);
    EXPECT_EQ(remote.generate(request).tokens, local.generate(request).tokens) << "kind " << kind;
    EXPECT_EQ(remote.behaviour.overlapped, 0) << "kind " << kind;
  }
}

// Beside each other: the same tokens, and steps overlap again once the one that needs logits is over.
TEST(Overlap, ComesBackWhenNobodyReadsLogits) {
  FakeEngine local;
  RemoteEngine remote;
  auto choosy = greedy_request("choosy", {1, 2, 3}, 8);
  choosy.return_logprob = true;
  const auto tokens = generate_together(remote, {greedy_request("a", kPrompt, 40), choosy});
  EXPECT_EQ(tokens[0], local.generate(greedy_request("a", kPrompt, 40)).tokens);
  EXPECT_EQ(tokens[1], local.generate(choosy).tokens);
  EXPECT_GE(remote.behaviour.overlapped, 30);
  EXPECT_LT(remote.behaviour.overlapped, 39);
}

TEST(Overlap, AnUnsoundRowIsSeenOneRowLate) {
  FakeEngine local;
  const auto whole = local.generate(greedy_request("r", kPrompt, 30)).tokens;
  RemoteEngine remote;
  remote.behaviour.empty_after = {whole[9]};
  auto bad = remote.submit(greedy_request("bad", kPrompt, 30));
  ASSERT_TRUE(bad->wait());
  EXPECT_TRUE(bad->complaints().empty());
  const auto first = std::find(whole.begin(), whole.end(), whole[9]);
  EXPECT_EQ(bad->output().tokens, std::vector<int32_t>(whole.begin(), first + 1));
  EXPECT_EQ(bad->output().last.finish, FinishReason::error);
  expect_nothing_left(remote);
  EXPECT_EQ(remote.engine->stats()->numeric_faults, 1U);
}

// The chunk behind it is in flight, and its rows are for the host: of a request that is gone by then.
TEST(Overlap, AFaultInsideAPromptWithItsEndInFlight) {
  RemoteEngine remote;
  std::vector<int32_t> prompt(40, 5);
  prompt[31] = 59;  // ends the first chunk
  remote.behaviour.empty_after = {59};
  auto request = greedy_request("bad", prompt, 10);
  request.return_logprob = true;
  request.sampling.repetition_penalty = 1.3;
  auto bad = remote.submit(request);
  ASSERT_TRUE(bad->wait());
  EXPECT_TRUE(bad->complaints().empty());
  EXPECT_EQ(bad->output().last.finish, FinishReason::error);
  EXPECT_TRUE(bad->output().tokens.empty());
  expect_nothing_left(remote);
  EXPECT_EQ(remote.behaviour.overlapped, 1);
}

TEST(Overlap, AReceiverThatFailsEndsItsRequestAlone) {
  RemoteEngine remote;
  FakeEngine local;
  auto good = remote.submit(greedy_request("good", kPrompt, 30));
  int events = 0;
  ASSERT_TRUE(remote.engine
                  ->submit(greedy_request("bad", {1, 2, 3}, 30),
                           [&events](OutputEvent) {
                             if (++events == 5) throw std::runtime_error("gone");
                           })
                  .ok());
  ASSERT_TRUE(good->wait());
  EXPECT_EQ(good->output().tokens, local.generate(greedy_request("good", kPrompt, 30)).tokens);
  expect_nothing_left(remote);
  EXPECT_EQ(events, 5);
}

}  // namespace
}  // namespace bifocal::engine
