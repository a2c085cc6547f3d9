#include "kernels/cpu/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "base/hash.h"

namespace bifocal::kernels::cpu {
namespace {

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Choice choose(const RouterRule& rule, std::vector<float> logits, ThreadPool* pool = nullptr) {
  ThreadPool one(1);
  const size_t tokens = logits.size() / static_cast<size_t>(rule.num_experts);
  Choice out;
  out.experts.resize(tokens * static_cast<size_t>(rule.experts_per_token));
  out.weights.resize(out.experts.size());
  choose_experts(rule, logits.data(), static_cast<int64_t>(tokens), out.experts.data(), out.weights.data(),
                 pool == nullptr ? one : *pool);
  return out;
}

std::vector<float> logits_of_sigmoids(const std::vector<double>& scores) {
  std::vector<float> out;
  for (const double s : scores) out.push_back(static_cast<float>(std::log(s / (1.0 - s))));
  return out;
}

std::vector<float> random_values(size_t n, uint64_t seed, double scale = 1.0) {
  SplitMix64 rng(seed);
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(scale * (2.0 * rng.uniform() - 1.0));
  return out;
}

void expect_weights(const Choice& choice, const std::vector<int32_t>& experts,
                    const std::vector<double>& weights) {
  EXPECT_EQ(choice.experts, experts);
  ASSERT_EQ(choice.weights.size(), weights.size());
  for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(choice.weights[i], weights[i], 2e-6) << i;
}

TEST(Router, SoftmaxRunsOverAllExpertsNotOnlyTheChosen) {
  RouterRule rule;
  rule.num_experts = 4;
  rule.experts_per_token = 2;
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, 0.0F};
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0) + 1.0;
  expect_weights(choose(rule, logits), {1, 2}, {std::exp(3.0) / sum, std::exp(2.0) / sum});
  rule.renormalize = true;
  const double kept = std::exp(3.0) + std::exp(2.0);
  expect_weights(choose(rule, logits), {1, 2}, {std::exp(3.0) / kept, std::exp(2.0) / kept});
  rule.scale = 2.5F;
  expect_weights(choose(rule, logits), {1, 2}, {2.5 * std::exp(3.0) / kept, 2.5 * std::exp(2.0) / kept});
}

TEST(Router, TiesGoToTheLowerIndex) {
  RouterRule rule;
  rule.num_experts = 6;
  rule.experts_per_token = 3;
  EXPECT_EQ(choose(rule, {1, 2, 1, 2, 2, 2}).experts, (std::vector<int32_t>{1, 3, 4}));
  EXPECT_EQ(choose(rule, {0, 0, 0, 0, 0, 0}).experts, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(choose(rule, {1, 1, 1, 1, 1, 2}).experts, (std::vector<int32_t>{0, 1, 5}));
}

// The example where a filler of 0 for excluded groups, instead of minus infinity, picks an excluded expert:
// kept scores go below 0.
TEST(Router, ExcludedGroupsStayExcludedBelowZero) {
  const std::vector<float> bias = {0.0F, -0.9F, -0.9F, -0.9F, -0.5F, -0.5F, -0.5F, -0.5F};
  RouterRule rule;
  rule.num_experts = 8;
  rule.experts_per_token = 3;
  rule.scoring = RouterScoring::sigmoid;
  rule.choice_bias = bias.data();
  rule.num_groups = 2;
  rule.groups_per_token = 1;
  rule.group_score = GroupScore::two_largest;
  rule.renormalize = true;
  rule.scale = 2.5F;
  const auto logits = logits_of_sigmoids({.9, .2, .1, .3, .6, .55, .5, .45});
  expect_weights(choose(rule, logits), {0, 1, 3}, {1.607143, 0.357143, 0.535714});
}

// DeepSeek-V3: the bias chooses, the unbiased score weighs.
TEST(Router, WeightsAreUnbiased) {
  const std::vector<float> bias = {0.0F, 0.0F, 0.5F, 0.0F};
  RouterRule rule;
  rule.num_experts = 4;
  rule.experts_per_token = 2;
  rule.scoring = RouterScoring::sigmoid;
  rule.choice_bias = bias.data();
  expect_weights(choose(rule, logits_of_sigmoids({.4, .7, .3, .6})), {1, 2}, {.7, .3});
}

// DeepSeek-V2's group_limited_greedy takes a group's best expert, V3 the sum of its best two.
TEST(Router, GroupScores) {
  const auto logits = logits_of_sigmoids({.9, .1, .1, .6, .6, .5, .2, .2, .2});
  RouterRule rule;
  rule.num_experts = 9;
  rule.experts_per_token = 2;
  rule.scoring = RouterScoring::sigmoid;
  rule.num_groups = 3;
  rule.groups_per_token = 1;
  rule.group_score = GroupScore::largest;
  expect_weights(choose(rule, logits), {0, 1}, {.9, .1});
  rule.group_score = GroupScore::two_largest;
  expect_weights(choose(rule, logits), {3, 4}, {.6, .6});
  rule.groups_per_token = 2;
  expect_weights(choose(rule, logits), {0, 3}, {.9, .6});
  rule.groups_per_token = 3;
  expect_weights(choose(rule, logits), {0, 3}, {.9, .6});
  // V2-Lite is greedy: one group.
  rule.num_groups = rule.groups_per_token = 1;
  rule.scoring = RouterScoring::softmax;
  EXPECT_EQ(choose(rule, logits).experts, (std::vector<int32_t>{0, 3}));
  // Groups of one expert have no second best.
  rule.num_groups = 9;
  rule.groups_per_token = 4;
  rule.group_score = GroupScore::two_largest;
  EXPECT_EQ(choose(rule, logits).experts, (std::vector<int32_t>{0, 3}));
}

// All of it beside a transcription in double that sorts.
TEST(Router, AgreesWithASortingReference) {
  const auto bias = random_values(64, 5, 0.2);
  ThreadPool pool(3);
  for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::sigmoid}) {
    for (const GroupScore group : {GroupScore::largest, GroupScore::two_largest}) {
      for (const bool renormalize : {false, true}) {
        RouterRule rule;
        rule.num_experts = 64;
        rule.experts_per_token = 6;
        rule.scoring = scoring;
        rule.choice_bias = scoring == RouterScoring::sigmoid ? bias.data() : nullptr;
        rule.num_groups = 8;
        rule.groups_per_token = 3;
        rule.group_score = group;
        rule.renormalize = renormalize;
        rule.scale = 1.5F;
        const size_t tokens = 300;
        const auto logits = random_values(tokens * 64, 6, 3.0);
        const Choice got = choose(rule, logits, &pool);
        for (size_t t = 0; t < tokens; ++t) {
          std::vector<double> s(64);
          double sum = 0;
          for (size_t i = 0; i < 64; ++i) {
            const double z = logits[t * 64 + i];
            s[i] = scoring == RouterScoring::softmax ? std::exp(z) : 1 / (1 + std::exp(-z));
            sum += s[i];
          }
          if (scoring == RouterScoring::softmax) {
            for (double& v : s) v /= sum;
          }
          std::vector<double> b = s;
          if (rule.choice_bias != nullptr) {
            for (size_t i = 0; i < 64; ++i) b[i] += bias[i];
          }
          std::vector<std::pair<double, size_t>> groups;
          for (size_t g = 0; g < 8; ++g) {
            std::vector<double> of(b.begin() + static_cast<int64_t>(g * 8),
                                   b.begin() + static_cast<int64_t>(g * 8 + 8));
            std::sort(of.rbegin(), of.rend());
            groups.emplace_back(group == GroupScore::largest ? of[0] : of[0] + of[1], g);
          }
          std::sort(groups.rbegin(), groups.rend());
          std::vector<std::pair<double, int32_t>> kept;
          for (size_t g = 0; g < 3; ++g) {
            for (size_t i = 0; i < 8; ++i) {
              const size_t e = groups[g].second * 8 + i;
              kept.emplace_back(b[e], static_cast<int32_t>(e));
            }
          }
          std::sort(kept.rbegin(), kept.rend());
          std::vector<int32_t> experts;
          double chosen = 0;
          for (size_t i = 0; i < 6; ++i) {
            experts.push_back(kept[i].second);
            chosen += s[static_cast<size_t>(kept[i].second)];
          }
          std::sort(experts.begin(), experts.end());
          for (size_t i = 0; i < 6; ++i) {
            ASSERT_EQ(got.experts[t * 6 + i], experts[i]) << t;
            const double weight = 1.5 * s[static_cast<size_t>(experts[i])] / (renormalize ? chosen : 1.0);
            ASSERT_NEAR(got.weights[t * 6 + i], weight, 1e-6) << t;
          }
        }
      }
    }
  }
}

// Broken weights give broken logits; the choice is still K experts that exist, each once.
TEST(Router, LogitsThatAreNotFiniteStillChooseDistinctExperts) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::sigmoid}) {
    RouterRule rule;
    rule.num_experts = 8;
    rule.experts_per_token = 4;
    rule.scoring = scoring;
    rule.num_groups = 4;
    rule.groups_per_token = 2;
    for (const auto& logits :
         {std::vector<float>(8, NAN), std::vector<float>(8, kInf), std::vector<float>(8, -kInf),
          std::vector<float>{NAN, 1, NAN, kInf, 2, -kInf, NAN, 0}}) {
      const Choice choice = choose(rule, logits);
      const std::set<int32_t> distinct(choice.experts.begin(), choice.experts.end());
      EXPECT_EQ(distinct.size(), 4U);
      EXPECT_GE(*distinct.begin(), 0);
      EXPECT_LT(*distinct.rbegin(), 8);
    }
  }
}

// The smallest E K case by hand, then a random one against its definition.
TEST(ExpertRows, SortIsStableAndInverse) {
  const auto check = [](const std::vector<int32_t>& experts, int num_experts) {
    std::vector<int32_t> begin(static_cast<size_t>(num_experts) + 1, -1);
    std::vector<int32_t> sorted(experts.size());
    std::vector<int32_t> place(experts.size());
    sort_by_expert(experts, {begin, sorted, place});
    std::vector<int32_t> expected(experts.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(), [&](int32_t a, int32_t b) {
      return experts[static_cast<size_t>(a)] < experts[static_cast<size_t>(b)];
    });
    EXPECT_EQ(sorted, expected);
    for (size_t i = 0; i < place.size(); ++i) {
      EXPECT_EQ(sorted[static_cast<size_t>(place[i])], static_cast<int32_t>(i));
    }
    EXPECT_EQ(begin.front(), 0);
    EXPECT_EQ(begin.back(), static_cast<int32_t>(experts.size()));
    for (int e = 0; e < num_experts; ++e) {
      for (int32_t i = begin[static_cast<size_t>(e)]; i < begin[static_cast<size_t>(e) + 1]; ++i) {
        EXPECT_EQ(experts[static_cast<size_t>(sorted[static_cast<size_t>(i)])], e);
      }
    }
  };
  check({2, 0, 2, 1}, 3);
  check({}, 3);
  std::vector<int32_t> random;
  SplitMix64 rng(8);
  for (int i = 0; i < 500; ++i) random.push_back(static_cast<int32_t>(rng.below(31)));
  check(random, 32);
}

// Gather and combine undo each other when weights say so, and pieces give the bits of the whole.
TEST(ExpertRows, CombineInPiecesGivesTheBitsOfOneCall) {
  constexpr int64_t kDim = 700;
  constexpr int kPerToken = 3;
  constexpr size_t kTokens = 40;
  std::vector<int32_t> experts;
  for (size_t t = 0; t < kTokens; ++t) {
    for (const size_t e : {t % 3, 3 + t % 4, 7 + t % 2}) experts.push_back(static_cast<int32_t>(e));
  }
  std::vector<int32_t> begin(10), sorted(experts.size()), place(experts.size());
  sort_by_expert(experts, {begin, sorted, place});
  const auto x = random_values(kTokens * kDim, 1);
  const auto weights = random_values(experts.size(), 2);
  ThreadPool pool(3);
  std::vector<float> rows(experts.size() * kDim);
  gather_rows(x.data(), kDim, sorted, kPerToken, rows.data(), pool);
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    ASSERT_EQ(std::memcmp(&rows[static_cast<size_t>(place[slot]) * kDim], &x[slot / kPerToken * kDim],
                          kDim * sizeof(float)),
              0);
  }
  const auto start = random_values(kTokens * kDim, 3);
  CombineArgs args;
  args.rows = rows.data();
  args.weights = weights.data();
  args.place = place;
  args.count = static_cast<int32_t>(experts.size());
  args.experts_per_token = kPerToken;
  args.dim = kDim;
  auto whole = start;
  args.y = whole.data();
  combine_rows(args, pool);
  for (size_t t = 0; t < kTokens; ++t) {
    const double sum = static_cast<double>(weights[3 * t]) + static_cast<double>(weights[3 * t + 1]) +
                       static_cast<double>(weights[3 * t + 2]);
    for (size_t i = 0; i < kDim; ++i) {
      const size_t at = t * kDim + i;
      ASSERT_NEAR(whole[at], start[at] + sum * x[at], 1e-6);
    }
  }
  auto pieces = start;
  args.y = pieces.data();
  for (const auto& [first, last] : {std::pair{0, 50}, std::pair{50, 51}, std::pair{51, 120}}) {
    args.first = first;
    args.count = last - first;
    args.rows = rows.data() + first * kDim;
    combine_rows(args, pool);
  }
  EXPECT_EQ(std::memcmp(pieces.data(), whole.data(), whole.size() * sizeof(float)), 0);
}

}  // namespace
}  // namespace bifocal::kernels::cpu
