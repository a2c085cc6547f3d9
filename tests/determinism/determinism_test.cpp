// One prompt, one answer, to the last bit of its log-probabilities: whatever the batch, the chunk size, the
// page size, the prefix cache, the threads, and after a restart.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/bundled_model.h"
#include "eval/determinism.h"
#include "eval/engine_generator.h"

namespace bifocal::eval {
namespace {

using engine::EngineOptions;

constexpr int kNumTrials = BIFOCAL_NUM_TRIALS;
constexpr int kNumStart = BIFOCAL_NUM_START;

EngineOptions standard() {
  EngineOptions options;
  options.kv_dtype = DType::bf16;
  options.page_size = 16;
  options.max_total_tokens = 32768;
  options.chunked_prefill_size = 256;
  options.max_running_requests = 64;
  options.deterministic = true;
  options.pool = std::make_shared<ThreadPool>(2);
  return options;
}

DeterminismOptions seeded() {
  DeterminismOptions test;
  test.num_trials = kNumTrials;
  test.num_start = kNumStart;
  test.temperature = 0.8;
  test.max_new_tokens = 40;
  test.num_mates = 6;
  return test;
}

// The bundled model, freshly started.
struct Started {
  explicit Started(const EngineOptions& options) : engine(engine::bundled_engine(options)) {
    auto tokenizer = text::Tokenizer::load(engine::bundled_model_directory() + "/tokenizer.json");
    EXPECT_TRUE(tokenizer.ok());
    generator.emplace(*engine, std::move(*tokenizer));
  }
  DeterminismReport run(DeterminismMode mode, const DeterminismOptions& test) {
    auto report = run_determinism(*generator, mode, test);
    EXPECT_TRUE(report.ok()) << report.status().message();
    if (!report.ok()) return {};
    EXPECT_TRUE(report->deterministic()) << to_string(mode) << "\n" << report->text();
    return std::move(*report);
  }
  std::unique_ptr<engine::Engine> engine;
  std::optional<EngineGenerator> generator;
};

// What engines with different settings answered to the same four prompts.
class Answers {
 public:
  void add(const DeterminismReport& report) {
    for (const PromptSamples& prompt : report.prompts) {
      fingerprints_[prompt.prompt].insert(prompt.fingerprints.begin(), prompt.fingerprints.end());
      totals_[prompt.prompt] += prompt.total;
    }
  }
  void expect_one_each(int64_t min_samples) const {
    ASSERT_EQ(fingerprints_.size(), 4U);
    for (const auto& [prompt, fingerprints] : fingerprints_) {
      EXPECT_EQ(fingerprints.size(), 1U) << prompt;
      EXPECT_GE(totals_.at(prompt), min_samples) << prompt;
    }
  }

 private:
  std::map<std::string, std::set<std::string>> fingerprints_;
  std::map<std::string, int64_t> totals_;
};

TEST(OneAnswer, WhateverTheChunkSizeAndTheCache) {
  Answers answers;
  uint64_t shuffle_seed = 0;
  for (const int chunk : {64, 256, -1}) {
    for (const bool cache : {true, false}) {
      SCOPED_TRACE(testing::Message() << "chunk " << chunk << ", cache " << cache);
      EngineOptions options = standard();
      options.chunked_prefill_size = chunk;
      options.enable_prefix_cache = cache;
      DeterminismOptions test = seeded();
      test.shuffle_seed = ++shuffle_seed;
      answers.add(Started(options).run(DeterminismMode::prefix, test));
    }
  }
  // Of all places a quarter each, give or take.
  answers.expect_one_each(6 * kNumTrials * (2 * kNumStart + kNumTrials - 1) / 2 / 6);
}

TEST(OneAnswer, WhateverThePagesThreadsBatchAndMemory) {
  Answers answers;
  struct Setting {
    int page_size, threads, max_running;
    int64_t pool_tokens;
  };
  uint64_t shuffle_seed = 100;
  for (const Setting& setting :
       {Setting{1, 1, 64, 32768}, Setting{16, 2, 3, 32768}, Setting{64, 3, 64, 32768},
        Setting{256, 2, 64, 32768}, Setting{16, 4, 64, 4096}}) {
    SCOPED_TRACE(testing::Message() << "pages of " << setting.page_size << ", threads " << setting.threads);
    EngineOptions options = standard();
    options.page_size = setting.page_size;
    options.pool = std::make_shared<ThreadPool>(setting.threads);
    options.max_running_requests = setting.max_running;
    options.max_total_tokens = setting.pool_tokens;
    DeterminismOptions test = seeded();
    test.num_trials = std::max(1, kNumTrials / 5);
    test.num_start = 10;
    test.shuffle_seed = ++shuffle_seed;
    answers.add(Started(options).run(DeterminismMode::prefix, test));
  }
  answers.expect_one_each(1);
}

// SGLang's tests as they are: greedy, without further mates.
TEST(OneAnswer, InEveryMode) {
  Started started(standard());
  DeterminismOptions test;
  test.num_trials = kNumTrials;
  test.num_start = std::max(8, kNumStart);
  for (const auto mode : {DeterminismMode::single, DeterminismMode::mixed, DeterminismMode::prefix,
                          DeterminismMode::radix_cache}) {
    started.run(mode, test);
  }
}

TEST(OneAnswer, FiftyTimesAmongSixtyFour) {
  DeterminismOptions test = seeded();
  test.num_trials = 1;
  test.num_start = 50;
  test.num_mates = 14;
  EXPECT_EQ(Started(standard()).run(DeterminismMode::single, test).prompts.at(0).total, 50);
}

// One backend for every phase: an answer's keys and values are what a prompt's would be, so that answers can
// be reused as they are, with or without --deterministic.
TEST(OneAnswer, WithOneBackendForEveryPhase) {
  for (const bool deterministic : {false, true}) {
    EngineOptions options = standard();
    options.deterministic = deterministic;
    options.attention.backend = "unified";
    DeterminismOptions test;
    test.temperature = 0.8;
    Started started(options);
    started.run(DeterminismMode::radix_cache, test);
    EXPECT_GT(started.engine->stats()->cached_prompt_tokens, 2 * 100U);  // answers among them
  }
}

// Without --deterministic the same holds, as long as no prompt holds another request's output.
TEST(OneAnswer, ByDefaultForFreshPrompts) {
  Answers answers;
  for (const bool deterministic : {true, false}) {
    EngineOptions options = standard();
    options.deterministic = deterministic;
    DeterminismOptions test = seeded();
    test.num_trials = 2;
    test.num_start = 20;
    answers.add(Started(options).run(DeterminismMode::prefix, test));
  }
  answers.expect_one_each(1);
}

}  // namespace
}  // namespace bifocal::eval
