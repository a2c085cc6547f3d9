#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace bifocal::engine {
namespace {

using attention::Phase;

std::vector<int32_t> prompt_of(int32_t length, int32_t first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A scheduler with its pool, and an executor whose every token is 7.
class Bench {
 public:
  Bench(int num_pages, int page_size, SchedulerOptions options = {}, bool share = true,
        kv::WindowLimits window = {})
      : pool(num_pages, page_size, window), tree(pool), scheduler(options, pool, share ? &tree : nullptr) {}

  RequestKey submit(std::vector<int32_t> prompt, int64_t max_new_tokens, int n = 1, uint64_t space = 0,
                    int64_t logits_from = kNoLogits) {
    const RequestKey key = next_key_++;
    prompt_len_[key] = static_cast<int64_t>(prompt.size());
    max_new_[key] = max_new_tokens;
    scheduler.submit({key, space, std::move(prompt), max_new_tokens, n, logits_from});
    return key;
  }

  // Every choice stops at max_new_tokens. `fault` loses its logits in this step.
  void complete(const Step& step, std::optional<RequestKey> fault = {}) {
    StepResult result;
    for (const StepSequence& s : step.sequences) result.faulted.push_back(fault == s.key.request ? 1 : 0);
    for (const StepSample& sample : step.samples) {
      const int64_t generated = sample.position + 1 - prompt_len_.at(sample.key.request);
      const bool done = generated >= max_new_.at(sample.key.request);
      result.samples.push_back({7, done});
      if (done && fault != sample.key.request) finished.push_back(sample.key);
    }
    scheduler.complete(result);
    scheduler.check_invariants();
  }

  const Step& step() {
    const Step& s = scheduler.schedule();
    scheduler.check_invariants();
    return s;
  }
  void run_step() {
    const Step& s = step();
    outgrown.insert(outgrown.end(), s.outgrown.begin(), s.outgrown.end());
    if (!s.empty()) complete(s);
  }
  int run_until_idle(int max_steps = 100'000) {
    int steps = 0;
    for (; !scheduler.idle() && steps < max_steps; ++steps) run_step();
    return steps;
  }

  kv::PagePool pool;
  kv::PrefixTree tree;
  Scheduler scheduler;
  std::vector<SequenceKey> finished;
  std::vector<SequenceKey> outgrown;

 private:
  RequestKey next_key_ = 1;
  std::map<RequestKey, int64_t> prompt_len_, max_new_;
};

TEST(Scheduler, AnIdleSchedulerGivesAnEmptyStep) {
  Bench bench(4, 16);
  EXPECT_TRUE(bench.step().empty());
  EXPECT_TRUE(bench.scheduler.idle());
}

TEST(Scheduler, PrefillsThenDecodes) {
  Bench bench(4, 16);
  bench.submit(prompt_of(20), 2);
  const Step& prefill = bench.step();
  ASSERT_EQ(prefill.sequences.size(), 1U);
  EXPECT_EQ(prefill.sequences[0].phase, Phase::prefill);
  EXPECT_EQ(prefill.sequences[0].q_len, 20);
  EXPECT_EQ(prefill.sequences[0].kv_len, 20);
  EXPECT_EQ(prefill.num_logits, 1);
  ASSERT_EQ(prefill.samples.size(), 1U);
  EXPECT_EQ(prefill.samples[0].position, 20);
  bench.complete(prefill);
  const Step& decode = bench.step();
  EXPECT_EQ(decode.sequences[0].phase, Phase::decode);
  EXPECT_EQ(decode.sequences[0].q_len, 1);
  EXPECT_EQ(decode.sequences[0].kv_len, 21);
  EXPECT_EQ(decode.sequences[0].tokens[0], 7);
  bench.complete(decode);
  EXPECT_TRUE(bench.scheduler.idle());
  EXPECT_EQ(bench.pool.owned_pages(), 0);
}

TEST(Scheduler, PlansBehindAStepInFlightAsIfAllGoOn) {
  Bench bench(8, 4);
  bench.submit(prompt_of(6), 3);
  bench.submit(prompt_of(6, 100), 1);
  const Step& prompts = bench.step();
  const Step& second = bench.step();
  EXPECT_EQ(bench.scheduler.num_in_flight(), 2);
  ASSERT_EQ(second.sequences.size(), 1U) << "the other one ends with its first token, whatever that is";
  const StepSequence& rows = second.sequences[0];
  EXPECT_EQ(rows.phase, Phase::decode);
  EXPECT_EQ(rows.kv_len, 7);
  EXPECT_EQ(rows.tokens[0], kNoToken);
  EXPECT_EQ(rows.chosen_row, prompts.samples[0].logit_row);
  bench.complete(prompts);
  EXPECT_EQ(bench.scheduler.num_running(), 1);
  const Step& third = bench.step();
  ASSERT_EQ(third.sequences.size(), 1U);
  EXPECT_EQ(third.sequences[0].chosen_row, second.samples[0].logit_row);
  bench.complete(second);
  EXPECT_TRUE(bench.step().empty()) << "its third token is in flight";
  bench.complete(third);
  EXPECT_TRUE(bench.scheduler.idle());
  EXPECT_EQ(bench.pool.owned_pages(), 0);
}

TEST(Scheduler, PagesOutliveTheirSequenceInAStepInFlight) {
  Bench bench(2, 4);
  const RequestKey request = bench.submit(prompt_of(5), 9);
  const Step& step = bench.step();
  bench.scheduler.cancel(request);
  bench.scheduler.check_invariants();
  EXPECT_TRUE(bench.scheduler.idle());
  EXPECT_EQ(bench.pool.owned_pages(), 2);
  bench.submit(prompt_of(5, 100), 1);
  EXPECT_TRUE(bench.step().empty()) << "no page is free yet";
  bench.complete(step);
  EXPECT_EQ(bench.pool.owned_pages(), 0);
  EXPECT_EQ(bench.run_until_idle(), 1);
}

TEST(Scheduler, ARetractionWaitsForTheStepInFlight) {
  SchedulerOptions options;
  options.conservativeness = 0;
  Bench bench(4, 4, options, false);
  bench.submit(prompt_of(7), 8);
  bench.submit(prompt_of(7), 8);
  bench.run_step();  // position 7 fills the second page of both
  const Step& step = bench.step();
  EXPECT_TRUE(bench.step().empty());
  EXPECT_EQ(bench.scheduler.counters().retractions, 0U);
  bench.complete(step);
  bench.run_step();
  EXPECT_EQ(bench.scheduler.counters().retractions, 1U);
  bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), 2U);
}

TEST(Scheduler, WindowsBoundHowManyRunTogether) {
  // A window of 9 keys lies in three pages of four; with one to copy from, a sequence takes four of ten.
  Bench bench(100, 4, {}, true, {9, 10});
  for (int i = 0; i < 3; ++i) bench.submit(prompt_of(40, 100 * i), 40);
  bench.run_step();
  EXPECT_EQ(bench.scheduler.num_running(), 1);  // two pages stay for chunks: not enough for a third
  bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), 3U);
  EXPECT_EQ(bench.scheduler.counters().retractions, 0U);
  EXPECT_EQ(bench.pool.window()->owned_pages(), 0);
}

TEST(Scheduler, SpareWindowPagesBoundAChunk) {
  Bench bench(100, 4, {}, true, {9, 10});
  bench.submit(prompt_of(100), 1);
  EXPECT_EQ(bench.step().num_rows, 6 * 4 + 1);
  SchedulerOptions whole;
  whole.split_prompts = false;
  Bench unsplit(100, 4, whole, true, {9, 4});
  unsplit.submit(prompt_of(100), 1);
  EXPECT_EQ(unsplit.step().num_rows, 1);  // rather than never
}

TEST(Scheduler, ShortSequencesTakeLessOfTheWindows) {
  Bench bench(200, 4, {}, true, {100, 60});
  for (int i = 0; i < 10; ++i) bench.submit(prompt_of(8, 10 * i), 8);
  for (int i = 0; i < 4; ++i) bench.run_step();
  EXPECT_EQ(bench.scheduler.num_running(), 9);  // five pages each, and a quarter for chunks
}

TEST(Scheduler, RefusesMoreChoicesThanThereAreWindows) {
  Bench bench(100, 4, {}, true, {9, 10});
  EXPECT_TRUE(bench.scheduler.validate(10, 2).ok());
  const Status status = bench.scheduler.validate(10, 3);
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("12 pages of 4 tokens, the server has 10"), std::string::npos);
}

TEST(Scheduler, AsManyWindowPagesAsPagesBoundNothing) {
  Bench bench(20, 4, {}, true, {9, 20});
  EXPECT_TRUE(bench.scheduler.validate(10, 6).ok());
  bench.submit(prompt_of(70), 5);
  EXPECT_EQ(bench.step().num_rows, 70);
}

TEST(Scheduler, PromptsAreChunkedAndShareAStepWithDecodes) {
  SchedulerOptions options;
  options.prefill_tokens = 16;
  Bench bench(64, 4, options);
  bench.submit(prompt_of(8), 50);
  bench.run_step();
  bench.submit(prompt_of(20, 100), 5);
  bench.submit(prompt_of(6, 200), 5);
  bench.submit(prompt_of(6, 300), 5);
  {
    const Step& step = bench.step();  // 16 of the first prompt, and the running one's row
    ASSERT_EQ(step.sequences.size(), 2U);
    EXPECT_EQ(step.sequences[0].q_len, 16);
    EXPECT_EQ(step.sequences[1].phase, Phase::decode);
    EXPECT_EQ(step.sequences[1].q_begin, 16);
    EXPECT_EQ(step.samples.size(),
              1U);  // the unfinished prompt gives no token, its last logits are only checked
    EXPECT_EQ(step.num_logits, 2);
    bench.complete(step);
  }
  {
    const Step& step = bench.step();  // 4 + 6 + 6 of three prompts
    ASSERT_EQ(step.sequences.size(), 4U);
    EXPECT_EQ(step.sequences[0].q_len, 4);
    EXPECT_EQ(step.sequences[0].kv_len, 20);
    EXPECT_EQ(step.sequences[1].q_len, 6);
    EXPECT_EQ(step.sequences[2].q_len, 6);
    EXPECT_EQ(step.sequences[3].phase, Phase::decode);
    EXPECT_EQ(step.samples.size(), 4U);
    bench.complete(step);
  }
}

TEST(Scheduler, WholePromptsAreNotSplitUnlessNoStepCouldHoldThem) {
  SchedulerOptions options;
  options.prefill_tokens = 16;
  options.split_prompts = false;
  Bench bench(64, 4, options);
  bench.submit(prompt_of(10), 1);
  bench.submit(prompt_of(10, 100), 1);
  bench.submit(prompt_of(40, 200), 1);
  std::vector<int32_t> lengths;
  while (!bench.scheduler.idle()) {
    const Step& step = bench.step();
    for (const auto& s : step.sequences) lengths.push_back(s.q_len);
    bench.complete(step);
  }
  // The second doesn't fit beside the first; the third fits no step, so it fills up the second's and goes on.
  EXPECT_EQ(lengths, (std::vector<int32_t>{10, 10, 6, 16, 16, 2}));
}

TEST(Scheduler, SharesAPrefixAndCopiesTheStartOfItsNextPage) {
  Bench bench(16, 4);
  bench.submit(prompt_of(11), 1);
  bench.run_step();
  EXPECT_EQ(bench.pool.cached_pages(), 3);
  bench.submit(prompt_of(10), 1);
  const Step& step = bench.step();
  ASSERT_EQ(step.sequences.size(), 1U);
  EXPECT_EQ(step.sequences[0].cached_tokens, 9);  // all but the last token
  EXPECT_EQ(step.sequences[0].q_len, 1);
  EXPECT_EQ(step.sequences[0].phase, Phase::prefill);  // it is the prompt's
  ASSERT_EQ(step.copies.size(), 1U);
  EXPECT_EQ(step.copies[0].num_tokens, 1);
  EXPECT_EQ(step.copies[0].target, step.sequences[0].pages[2]);
  bench.complete(step);
}

TEST(Scheduler, NamespacesShareNothing) {
  Bench bench(16, 4);
  bench.submit(prompt_of(12), 1, 1, 1);
  bench.run_step();
  bench.submit(prompt_of(12), 1, 1, 2);
  EXPECT_EQ(bench.step().sequences[0].cached_tokens, 0);
}

TEST(Scheduler, ChoicesShareThePromptsPages) {
  Bench bench(32, 4);
  bench.submit(prompt_of(10), 3, 4);
  {
    const Step& step = bench.step();
    ASSERT_EQ(step.samples.size(), 4U);
    for (int choice = 0; choice < 4; ++choice) {
      EXPECT_EQ(step.samples[static_cast<size_t>(choice)].key.choice, choice);
      EXPECT_EQ(step.samples[static_cast<size_t>(choice)].logit_row, 0);
    }
    bench.complete(step);
  }
  EXPECT_EQ(bench.scheduler.num_running(), 4);
  const Step& step = bench.step();
  ASSERT_EQ(step.sequences.size(), 4U);
  EXPECT_EQ(step.copies.size(), 3U);  // two tokens of the last page, for each branch
  for (const StepSequence& s : step.sequences) {
    EXPECT_EQ(s.pages[0], step.sequences[0].pages[0]);
    EXPECT_EQ(s.pages[1], step.sequences[0].pages[1]);
  }
  EXPECT_NE(step.sequences[1].pages[2], step.sequences[0].pages[2]);
  EXPECT_EQ(bench.pool.owned_pages(), 2 + 4);
  bench.complete(step);
  bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), 4U);
}

TEST(Scheduler, ChoicesThatDoNotFitTogetherRunOneAfterAnother) {
  Bench bench(4, 4, {}, false);
  bench.submit(prompt_of(8), 8, 4);  // each choice alone fills the pool
  bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), 4U);
  EXPECT_TRUE(bench.outgrown.empty());
  EXPECT_GE(bench.scheduler.counters().retractions, 3U);
}

TEST(Scheduler, AChoiceWhoseCopySourceTakesTheLastPageIsComputedInstead) {
  // Choice 0 ends with its first token; its last page lives on only to be copied from, and fills the pool.
  Bench bench(2, 4, {}, false);
  const RequestKey key = bench.submit(prompt_of(6), 2, 2);
  const Step& step = bench.step();
  ASSERT_EQ(step.samples.size(), 2U);
  bench.scheduler.complete({{{7, true}, {7, false}}, {0}});
  bench.run_until_idle();
  EXPECT_TRUE(bench.outgrown.empty());
  EXPECT_EQ(bench.finished, (std::vector<SequenceKey>{{key, 1}}));
}

TEST(Scheduler, ARequestThatCanNeverFitIsRefused) {
  Bench bench(69, 16);
  EXPECT_TRUE(bench.scheduler.validate(69 * 16, 1).ok());
  const Status too_long = bench.scheduler.validate(69 * 16 + 1, 1);
  EXPECT_EQ(too_long.code(), StatusCode::invalid_argument);
  EXPECT_NE(too_long.message().find("1105 tokens needs 70 KV pages of 16 tokens, the server has 69"),
            std::string::npos)
      << too_long.message();
  EXPECT_FALSE(bench.scheduler.validate(10, 257).ok());
  EXPECT_FALSE(bench.scheduler.validate(0, 1).ok());
}

TEST(Scheduler, ARequestThatJustFitsFinishesWithoutRetries) {
  Bench bench(69, 16);  // the livelock of vllm#52530
  bench.submit(prompt_of(1000), 24);
  EXPECT_EQ(bench.run_until_idle(), 24);
  EXPECT_EQ(bench.finished.size(), 1U);
  EXPECT_EQ(bench.scheduler.counters().retractions, 0U);
}

TEST(Scheduler, TheLastRequestThatOutgrowsThePoolEndsAndTheNextOneRuns) {
  Bench bench(8, 4);
  const RequestKey big = bench.submit(prompt_of(20), 100);
  bench.run_until_idle(200);
  EXPECT_EQ(bench.outgrown, (std::vector<SequenceKey>{{big, 0}}));
  const RequestKey next = bench.submit(prompt_of(20, 50), 4);
  bench.run_until_idle(200);
  EXPECT_EQ(bench.finished, (std::vector<SequenceKey>{{next, 0}}));
}

TEST(Scheduler, CancelFreesPagesBeforeTheNextStep) {
  Bench bench(16, 4, {}, false);
  const RequestKey running = bench.submit(prompt_of(16), 50, 2);
  bench.run_step();
  const RequestKey waiting = bench.submit(prompt_of(60, 100), 50);
  bench.run_step();
  EXPECT_EQ(bench.scheduler.num_waiting(), 1);
  bench.scheduler.cancel(waiting);
  EXPECT_EQ(bench.scheduler.num_waiting(), 0);
  bench.scheduler.cancel(running);
  EXPECT_TRUE(bench.scheduler.idle());
  EXPECT_EQ(bench.pool.free_pages(), 16);
  bench.scheduler.cancel(running);  // again: nothing
}

TEST(Scheduler, AFaultedSequenceLeavesNothingInTheTreeAndTheOthersGoOn) {
  Bench bench(32, 4);
  const RequestKey bad = bench.submit(prompt_of(12), 5, 2);
  const RequestKey good = bench.submit(prompt_of(12, 100), 5);
  bench.complete(bench.step(), bad);
  EXPECT_EQ(bench.scheduler.num_running(), 1);
  EXPECT_TRUE(bench.tree.match(0, prompt_of(12)).pages.empty());
  EXPECT_EQ(bench.tree.match(0, prompt_of(12, 100)).pages.size(), 3U);
  bench.run_until_idle();
  EXPECT_EQ(bench.finished, (std::vector<SequenceKey>{{good, 0}}));
}

TEST(Scheduler, PromptLogitsAreBoundedPerStep) {
  SchedulerOptions options;
  options.max_prompt_logit_rows = 4;
  Bench bench(32, 4, options);
  bench.submit(prompt_of(30), 1, 1, 0, 10);
  int64_t seen = 10;
  while (!bench.scheduler.idle()) {
    const Step& step = bench.step();
    ASSERT_EQ(step.sequences.size(), 1U);
    const StepSequence& s = step.sequences[0];
    EXPECT_LE(s.num_logits, 5);
    if (s.kv_len > 10) {
      EXPECT_EQ(s.kv_len - s.num_logits, seen);
      seen = s.kv_len;
    }
    bench.complete(step);
  }
  EXPECT_EQ(seen, 30);
}

TEST(Scheduler, APrefixIsNotReusedWhereLogitsAreWanted) {
  Bench bench(32, 4);
  bench.submit(prompt_of(20), 1);
  bench.run_step();
  bench.submit(prompt_of(20), 1, 1, 0, 10);
  EXPECT_EQ(bench.step().sequences[0].cached_tokens, 10);
}

TEST(Scheduler, TheOldestIsNeverRetracted) {
  SchedulerOptions options;
  options.conservativeness = 0;
  Bench bench(20, 4, options, false);
  const RequestKey oldest = bench.submit(prompt_of(8), 60);
  for (int i = 1; i < 6; ++i) bench.submit(prompt_of(8, 100 * i), 60);
  int64_t expected_len = 8;
  while (bench.finished.empty() || bench.finished[0].request != oldest) {
    const Step& step = bench.step();
    bool found = false;
    for (const StepSequence& s : step.sequences) {
      if (s.key.request != oldest) continue;
      found = true;
      EXPECT_EQ(s.kv_len, expected_len++);  // one token further in every step
    }
    ASSERT_TRUE(found);
    bench.complete(step);
  }
  EXPECT_GT(bench.scheduler.counters().retractions, 0U);
  bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), 6U);
}

TEST(Scheduler, OversubscriptionRecomputesLittleAndKeepsThroughput) {
  // Four times more than fits, for as long as it lasts: E3 of the reliability rules.
  constexpr int kRequests = 400;
  SchedulerOptions options;
  options.max_running = 64;
  Bench bench(256, 16, options, false);  // 4096 tokens; 64 streams of up to 256
  for (int i = 0; i < kRequests; ++i) bench.submit(prompt_of(32, 1000 * i), 64 + (i * 37) % 192);
  const int steps = bench.run_until_idle();
  EXPECT_EQ(bench.finished.size(), static_cast<size_t>(kRequests));
  const auto& counters = bench.scheduler.counters();
  RecordProperty("steps", steps);
  EXPECT_GT(counters.retractions, 0U);
  EXPECT_LE(static_cast<double>(counters.recomputed_tokens),
            0.25 * static_cast<double>(counters.computed_tokens));
  // The pool's worth of tokens is busy: at least half of what a perfect packing would reach.
  const double rows_per_step =
      static_cast<double>(counters.computed_tokens - counters.recomputed_tokens) / steps;
  EXPECT_GT(rows_per_step, 0.5 * 4096 / (32 + 160 / 2.0 + 8));
}

TEST(Scheduler, AVictimClassIsServedThoughAnotherFloods) {
  SchedulerOptions options;
  options.max_running = 8;
  Bench bench(256, 16, options);
  for (int i = 0; i < 64; ++i) bench.submit(prompt_of(16, 1000 * i), 40, 1, 1);
  for (int i = 0; i < 10; ++i) bench.run_step();
  const RequestKey victim = bench.submit(prompt_of(16, -5000), 2, 1, 2);
  int steps = 0;
  while (bench.finished.empty() || bench.finished.back().request != victim) {
    bench.run_step();
    ASSERT_LT(++steps, 50);  // as soon as one of the running ones ends, not after the other 55
  }
}

}  // namespace
}  // namespace bifocal::engine
