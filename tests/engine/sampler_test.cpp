#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <vector>

#include "engine/reference_sampler.h"

namespace bifocal::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(uint64_t seed, size_t vocab, double spread = 4.0) {
  SplitMix64 random(seed);
  std::vector<float> logits(vocab);
  for (float& x : logits) {  // a sum of uniforms: bell-shaped
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += random.uniform() - 0.5;
    x = static_cast<float>(spread * sum);
  }
  return logits;
}

class SamplerTest : public testing::Test {
 protected:
  SampleOutcome run(const std::vector<float>& logits, SampleTask task) {
    Sampler sampler(static_cast<int>(logits.size()), pool_.num_threads());
    task.logits = logits.data();
    SampleOutcome outcome;
    sampler.run({&task, 1}, {&outcome, 1}, pool_);
    return outcome;
  }
  SampleOutcome run(const std::vector<float>& logits, const SamplingParams& params, uint64_t seed = 1,
                    int64_t position = 0) {
    SampleTask task;
    task.params = &params;
    task.seed = seed;
    task.position = position;
    return run(logits, task);
  }

  ThreadPool pool_{2};
};

TEST_F(SamplerTest, GreedyTakesTheLowestIdOfEquals) {
  SamplingParams greedy;
  greedy.temperature = 0;
  for (const size_t vocab : {1U, 2U, 127U, 128U, 129U, 1000U}) {
    auto logits = random_logits(vocab, vocab);
    logits[vocab / 2] = 50;
    logits[vocab - 1] = 50;
    EXPECT_EQ(run(logits, greedy).token.id, static_cast<int32_t>(vocab / 2));
  }
}

TEST_F(SamplerTest, AgreesWithTheReference) {
  int close_calls = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    SplitMix64 random(seed);
    const size_t vocab = 1 + random.below(seed % 3 == 0 ? 3000 : 300);
    const auto logits = random_logits(seed, vocab, 1.0 + 15.0 * random.uniform());
    const auto token = [&] { return static_cast<int32_t>(random.below(vocab)); };
    SamplingParams p;
    p.temperature = random.below(8) == 0 ? 0.0 : 0.1 + 2.0 * random.uniform();
    if (random.below(2) == 0) p.top_k = 1 + static_cast<int>(random.below(vocab + 10));
    if (random.below(2) == 0) p.top_p = 0.01 + 0.99 * random.uniform();
    if (random.below(3) == 0) p.min_p = 0.3 * random.uniform();
    if (random.below(3) == 0) p.repetition_penalty = 0.5 + random.uniform();
    if (random.below(3) == 0) p.frequency_penalty = 4 * random.uniform() - 2;
    if (random.below(3) == 0) p.presence_penalty = 4 * random.uniform() - 2;
    for (uint64_t i = random.below(4); i > 0; --i) {
      p.logit_bias.emplace_back(token(), static_cast<float>(20 * random.uniform() - 10));
    }
    std::vector<int32_t> prompt(random.below(20));
    std::vector<int32_t> output(random.below(20));
    for (int32_t& t : prompt) t = token();
    for (int32_t& t : output) t = token();
    std::vector<int32_t> banned;
    if (vocab > 10 && random.below(3) == 0) banned = {token(), token()};
    TokenCounts counts;
    counts.add_prompt(prompt);
    for (const int32_t t : output) counts.add_output(t);

    SampleTask task;
    task.params = &p;
    task.counts = has_penalties(p) ? &counts : nullptr;
    task.banned = banned;
    task.seed = seed;
    task.position = static_cast<int64_t>(seed % 17);
    const SampleOutcome got = run(logits, task);
    ASSERT_TRUE(got.valid);
    const auto expected = reference::choose(reference::modified(logits, p, prompt, output, banned), p,
                                            task.seed, task.position);
    if (expected.margin < 1e-5) {
      ++close_calls;  // float and double may differ here
    } else {
      ASSERT_EQ(got.token.id, expected.token) << "seed " << seed;
    }
  }
  EXPECT_LT(close_calls, 30);
}

TEST_F(SamplerTest, FrequenciesFollowTheDistribution) {
  constexpr int kDraws = 20'000;
  const std::vector<float> logits = {0.0F, 1.0F, 2.0F, -1.0F, 0.5F};
  SamplingParams p;
  p.temperature = 0.7;
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x) / 0.7);
  std::vector<int> count(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) ++count[static_cast<size_t>(run(logits, p, 42, i).token.id)];
  double chi_square = 0;
  for (size_t t = 0; t < logits.size(); ++t) {
    const double expected = kDraws * std::exp(static_cast<double>(logits[t]) / 0.7) / total;
    chi_square += (count[t] - expected) * (count[t] - expected) / expected;
  }
  EXPECT_LT(chi_square, 18.5);  // 4 degrees of freedom, p = 0.001
}

TEST_F(SamplerTest, DependsOnSeedPositionAndRowAlone) {
  constexpr size_t kVocab = 5000;
  constexpr size_t kRows = 24;
  SamplingParams p;
  p.top_p = 0.9;
  std::vector<std::vector<float>> rows;
  std::vector<SampleTask> tasks;
  for (size_t i = 0; i < kRows; ++i) rows.push_back(random_logits(i, kVocab));
  for (size_t i = 0; i < kRows; ++i) {
    SampleTask task;
    task.logits = rows[i].data();
    task.params = &p;
    task.seed = i;
    task.position = static_cast<int64_t>(i);
    task.logprob = true;
    task.top_logprobs = 3;
    tasks.push_back(task);
  }
  Sampler together(kVocab, pool_.num_threads());
  std::vector<SampleOutcome> outcomes(kRows);
  together.run(tasks, outcomes, pool_);
  for (size_t i = 0; i < kRows; ++i) {
    const SampleOutcome alone = run(rows[i], tasks[i]);
    EXPECT_EQ(alone.token.id, outcomes[i].token.id);
    EXPECT_EQ(alone.token.logprob, outcomes[i].token.logprob);  // to the bit
  }
}

TEST_F(SamplerTest, SeedsAndPositionsAndChoicesDiffer) {
  const std::vector<float> flat(4096, 1.0F);
  SamplingParams p;
  std::set<int32_t> tokens;
  for (int choice = 0; choice < 8; ++choice) {
    for (int64_t position = 0; position < 8; ++position) {
      tokens.insert(run(flat, p, choice_seed(42, choice), position).token.id);
    }
  }
  EXPECT_GT(tokens.size(), 60U);
  EXPECT_EQ(choice_seed(42, 0), 42U);
}

TEST_F(SamplerTest, LogprobsAreOfTheModelsOwnDistribution) {
  auto logits = random_logits(3, 1000);
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x));
  SamplingParams p;
  p.temperature = 0.3;
  p.logit_bias = {{17, 50.0F}};
  SampleTask task;
  task.params = &p;
  task.logprob = true;
  task.top_logprobs = 5;
  const auto outcome = run(logits, task);
  EXPECT_EQ(outcome.token.id, 17);
  EXPECT_NEAR(outcome.token.logprob, static_cast<double>(logits[17]) - std::log(total), 2e-6);
  ASSERT_EQ(outcome.token.top_logprobs.size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    const auto& top = outcome.token.top_logprobs[i];
    EXPECT_NEAR(top.logprob, static_cast<double>(logits[static_cast<size_t>(top.token_id)]) - std::log(total),
                2e-6);
    const auto larger = std::count_if(logits.begin(), logits.end(),
                                      [&](float x) { return x > logits[static_cast<size_t>(top.token_id)]; });
    EXPECT_EQ(larger, static_cast<ptrdiff_t>(i));
  }
}

TEST_F(SamplerTest, ScoresAGivenToken) {
  const std::vector<float> logits = {0.0F, 0.0F, 0.0F, 0.0F};
  SampleTask task;
  task.given = 2;
  task.logprob = true;
  task.top_logprobs = 10;  // more than there are
  const auto outcome = run(logits, task);
  ASSERT_TRUE(outcome.valid);
  EXPECT_EQ(outcome.token.id, 2);
  EXPECT_NEAR(outcome.token.logprob, std::log(0.25), 1e-6);
  EXPECT_EQ(outcome.token.top_logprobs.size(), 4U);
}

TEST_F(SamplerTest, RowsWithoutAnAnswerAreInvalid) {
  SamplingParams p;
  const float nan = std::nanf("");
  for (const size_t at : {0U, 63U, 299U}) {
    for (const float bad : {nan, kInf, -nan}) {
      auto logits = random_logits(1, 300);
      logits[at] = bad;
      EXPECT_FALSE(run(logits, p).valid) << at;
    }
  }
  EXPECT_FALSE(run(std::vector<float>(300, -kInf), p).valid);
  EXPECT_FALSE(run(std::vector<float>(300, nan), p).valid);
}

TEST_F(SamplerTest, MinusInfinityIsNeverChosen) {
  std::vector<float> logits(1000, -kInf);
  logits[3] = -50;
  logits[700] = -50;
  SamplingParams p;
  std::set<int32_t> tokens;
  for (const double top_p : {1.0, 0.9}) {
    p.top_p = top_p;
    for (int64_t position = 0; position < 100; ++position)
      tokens.insert(run(logits, p, 1, position).token.id);
  }
  EXPECT_EQ(tokens, (std::set<int32_t>{3, 700}));
}

TEST_F(SamplerTest, NothingAllowedIsInvalid) {
  SamplingParams p;
  SampleTask task;
  task.params = &p;
  const std::vector<int32_t> everything = {0, 1, 2};
  task.banned = everything;
  EXPECT_FALSE(run(std::vector<float>{1.0F, 2.0F, 3.0F}, task).valid);
}

TEST_F(SamplerTest, BannedTokensAreNotChosenEvenGreedily) {
  SamplingParams greedy;
  greedy.temperature = 0;
  SampleTask task;
  task.params = &greedy;
  const std::vector<int32_t> banned = {2};
  task.banned = banned;
  EXPECT_EQ(run(std::vector<float>{1.0F, 2.0F, 3.0F}, task).token.id, 1);
}

TEST_F(SamplerTest, ExtremeParametersStayFinite) {
  auto logits = random_logits(9, 2000, 1000.0);
  SamplingParams p;
  for (const double temperature : {1.1e-6, 1e-3, 1e6, 1e30}) {
    for (const double top_p : {1e-9, 0.5, 1.0}) {
      p.temperature = temperature;
      p.top_p = top_p;
      const auto outcome = run(logits, p, 5, 5);
      ASSERT_TRUE(outcome.valid);
      ASSERT_GE(outcome.token.id, 0);
      ASSERT_LT(outcome.token.id, 2000);
    }
  }
}

TEST(ExpTerm, IsCloseToTheLibrarys) {
  double worst = 0;
  for (float x = 0; x > -87; x -= 0.0037F) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exp_term(x, 0, 1)) - exact) / exact);
  }
  EXPECT_LT(worst, 1e-6);
  EXPECT_EQ(exp_term(0, 0, 1), 1.0F);
  EXPECT_EQ(exp_term(-kInf, 0, 1), 0.0F);
  EXPECT_EQ(exp_term(-1000, 0, 1), 0.0F);
}

TEST(TopCandidates, AgreeWithSorting) {
  LogitScratch scratch;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SplitMix64 random(seed);
    auto logits = random_logits(seed, 1 + random.below(2000));
    for (float& x : logits) x = std::round(x * 2) / 2;  // many equals
    const size_t count = 1 + random.below(logits.size());
    scan_row(logits, scratch);
    top_candidates(logits, count, scratch);
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    ASSERT_EQ(scratch.candidates.size(), count);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(scratch.candidates[i].token, order[i]) << seed;
  }
}

}  // namespace
}  // namespace bifocal::engine
