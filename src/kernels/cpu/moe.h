// Mixture of experts around its matrix products: which experts a token goes to, the rows of each expert side
// by side, and the weighted sum of what the experts give. T tokens, E experts, K experts per token; a token's
// K slots are numbered t K + s. Each token is computed alone: its bits don't depend on the others.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"

namespace bifocal::kernels::cpu {

enum class RouterScoring : uint8_t { softmax, sigmoid };

// A group's score: its best expert's, or its best two's sum.
enum class GroupScore : uint8_t { largest, two_largest };

constexpr int kMaxExperts = 1024;  // E

// How logits z [E] become experts and weights (Qwen3-MoE; DeepSeek-V2, arXiv 2405.04434; DeepSeek-V3,
// arXiv 2412.19437, section 2.1.2; GPT-OSS): s = softmax(z) or sigmoid(z). Experts are chosen by
// s + choice_bias, the largest K, the lower index among equals, out of the groups_per_token best of
// num_groups equal groups. Weights are s of the chosen ones, summing to 1 if renormalised, times `scale`.
struct RouterRule {
  int num_experts = 0;        // E, at most kMaxExperts
  int experts_per_token = 0;  // K, at most what groups_per_token groups hold
  RouterScoring scoring = RouterScoring::softmax;
  const float* choice_bias = nullptr;  // [E] or null
  int num_groups = 1;
  int groups_per_token = 1;
  GroupScore group_score = GroupScore::largest;
  bool renormalize = false;
  float scale = 1.0F;
};

// logits [T, E] become scores s. experts [T, K] in ascending order, weights [T, K]. Logits that are not
// finite give a choice all the same, of distinct experts.
void choose_experts(const RouterRule& rule, float* logits, int64_t num_tokens, int32_t* experts,
                    float* weights, ThreadPool& pool);

// Slots sorted by expert, in their order within each.
struct ExpertOrder {
  std::span<int32_t> begin;   // [E + 1] expert e has sorted[begin[e], begin[e + 1])
  std::span<int32_t> sorted;  // [T K] slots
  std::span<int32_t> place;   // [T K] where a slot is in `sorted`
};
void sort_by_expert(std::span<const int32_t> experts, const ExpertOrder& order);

// out[i] = x[slots[i] / K], rows of dim values side by side.
void gather_rows(const float* x, int64_t dim, std::span<const int32_t> slots, int experts_per_token,
                 float* out, ThreadPool& pool);

// y[t] += sum over the slots of t, in their order, of weights[slot] * rows[place[slot] - first]. Slots with a
// place outside [first, first + count) are left out: a long sum may be made in several calls, in ascending
// order of place, to the same bits.
struct CombineArgs {
  const float* rows = nullptr;     // [count, dim]
  const float* weights = nullptr;  // [T K]
  std::span<const int32_t> place;  // [T K]
  int32_t first = 0;
  int32_t count = 0;
  int experts_per_token = 0;
  int64_t dim = 0;
  float* y = nullptr;  // [T, dim]
};
void combine_rows(const CombineArgs& args, ThreadPool& pool);

}  // namespace bifocal::kernels::cpu
