// An engine whose model computes elsewhere: tokens are chosen there where they can be, logits reach the host
// only where they are asked for, and a device can fail for good.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <latch>
#include <limits>

#include "engine/engine_harness.h"
#include "engine/sampler.h"
#include "engine/wrapped_model.h"
#include "kv/kv_cache.h"

namespace bifocal::engine {
namespace {

// What a device would do differently.
struct DeviceBehaviour {
  Status copy_error;                 // of every page copy
  int64_t fail_at = -1;              // this step and all after it fail: CUDA's errors are sticky
  std::latch* submitted = nullptr;   // no step runs before
  int64_t steps = 0;                 // that ran
  int64_t read_rows = 0;             // logit rows that were asked for
  int64_t rows = 0;                  // and all of them
  std::vector<int32_t> empty_after;  // tokens after which the row is unsound
};

class RemoteExecutor final : public model::Executor {
 public:
  RemoteExecutor(std::unique_ptr<model::Executor> inner, DeviceBehaviour& behaviour)
      : inner_(std::move(inner)), behaviour_(behaviour), logits_(size_t{512} * kFakeVocab) {}

  int num_pages() const override { return inner_->num_pages(); }
  int page_size() const override { return inner_->page_size(); }
  Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    if (!behaviour_.copy_error.ok()) return behaviour_.copy_error;
    return inner_->copy_tokens(source, target, num_tokens);
  }
  Status run(const model::StepRows& rows, const attention::StepBatch& batch) override {
    if (behaviour_.submitted != nullptr) behaviour_.submitted->wait();
    if (behaviour_.steps++ == behaviour_.fail_at) failed_ = true;
    if (failed_) return internal_error("decode attention: cudaErrorIllegalAddress");
    BIFOCAL_RETURN_IF_ERROR(inner_->run(rows, batch));
    const size_t num_rows = rows.logit_rows.size();
    EXPECT_EQ(rows.read_logits.size(), num_rows);
    std::fill(logits_.begin(), logits_.end(), std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(rows.sampling.size(), num_rows);
    tokens_.assign(num_rows, model::kUnsoundRow);
    for (size_t r = 0; r < num_rows; ++r) {
      const float* from = inner_->logits(static_cast<int32_t>(r));
      ++behaviour_.rows;
      if (rows.read_logits[r] != 0) {
        ++behaviour_.read_rows;
        std::copy_n(from, kFakeVocab, logits_.begin() + static_cast<ptrdiff_t>(r * kFakeVocab));
      }
      const int32_t token = rows.token_ids[static_cast<size_t>(rows.logit_rows[r])];
      if (std::count(behaviour_.empty_after.begin(), behaviour_.empty_after.end(), token) == 0) {
        tokens_[r] = choose(from, rows.sampling[r]);
      }
    }
    return {};
  }
  const float* logits(int32_t row) const override {
    return logits_.data() + static_cast<size_t>(row) * kFakeVocab;
  }
  std::span<const int32_t> tokens() const override { return tokens_; }
  std::span<const attention::AttentionDesc> classes() const override { return inner_->classes(); }
  const attention::Router& router() const override { return inner_->router(); }
  const attention::PhaseCounters& counters(size_t class_index, attention::Phase phase) const override {
    return inner_->counters(class_index, phase);
  }

 private:
  static int32_t choose(const float* logits, const kernels::SampleParams& how) {
    SamplingParams params;
    params.temperature = how.temperature;
    params.top_p = how.top_p;
    params.min_p = how.min_p;
    params.top_k = how.top_k;
    SampleTask task;
    task.logits = logits;
    task.params = &params;
    task.seed = how.seed;
    task.position = how.position;
    SampleOutcome outcome;
    ThreadPool pool(1);
    Sampler(kFakeVocab, 1).run({&task, 1}, {&outcome, 1}, pool);
    return outcome.valid ? outcome.token.id : model::kUnsoundRow;
  }

  std::unique_ptr<model::Executor> inner_;
  DeviceBehaviour& behaviour_;
  std::vector<float> logits_;
  std::vector<int32_t> tokens_;
  bool failed_ = false;
};

using RemoteModel = WrappedModel<RemoteExecutor, DeviceBehaviour>;

struct RemoteEngine {
  explicit RemoteEngine(EngineOptions options = small_options()) {
    auto fake = std::make_unique<FakeModel>(options.kv_dtype, options.page_size, options.pool);
    auto created =
        Engine::create(std::make_unique<RemoteModel>(std::move(fake), behaviour), nullptr, options);
    EXPECT_TRUE(created.ok()) << created.status().message();
    engine = std::move(*created);
  }
  std::shared_ptr<Collector> submit(GenerateRequest request) {
    return engine::submit(*engine, std::move(request));
  }
  Collector::Output generate(GenerateRequest request) {
    return engine::generate(*engine, std::move(request));
  }
  DeviceBehaviour behaviour;  // outlives the engine
  std::unique_ptr<Engine> engine;
};

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

TEST(Device, AFailedDeviceEndsEveryStream) {
  std::latch submitted(1);
  RemoteEngine remote;
  remote.behaviour.fail_at = 5;
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
  EXPECT_EQ(remote.engine->submit(greedy_request("late", {1}, 1), [](OutputEvent) {}).code(),
            StatusCode::unavailable);
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
