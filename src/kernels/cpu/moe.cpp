#include "kernels/cpu/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/trace.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr int64_t kTaskValues = 16384;  // some microseconds: well above the cost of handing a task out

// Calls fn(first, last) for ranges of rows of about kTaskValues values.
template <class Fn>
void for_row_ranges(int64_t num_rows, int64_t values_per_row, ThreadPool& pool, Fn fn) {
  const int64_t rows = std::max<int64_t>(1, kTaskValues / std::max<int64_t>(1, values_per_row));
  pool.parallel_for((num_rows + rows - 1) / rows,
                    [&](int64_t task, int) { fn(task * rows, std::min(num_rows, (task + 1) * rows)); });
}

void softmax(float* z, int n) {
  const float largest = *std::max_element(z, z + n);
  float sum = 0.0F;
  for (int i = 0; i < n; ++i) sum += z[i] = std::exp(z[i] - largest);
  for (int i = 0; i < n; ++i) z[i] /= sum;
}

void sigmoid(float* z, int n) {
  for (int i = 0; i < n; ++i) z[i] = 1.0F / (1.0F + std::exp(-z[i]));
}

// The k largest scores' indices, largest first, the lower index among equals. Always k distinct ones, NaN or
// not.
void largest_indices(const float* scores, int n, int k, int32_t* out) {
  for (int i = 0; i < n; ++i) {
    int at = std::min(i, k);
    if (at == k && !(scores[i] > scores[out[k - 1]])) continue;
    at = std::min(at, k - 1);
    for (; at > 0 && scores[i] > scores[out[at - 1]]; --at) out[at] = out[at - 1];
    out[at] = i;
  }
}

float group_score(const float* scores, int n, GroupScore kind) {
  float first = scores[0];
  float second = -std::numeric_limits<float>::infinity();
  for (int i = 1; i < n; ++i) {
    second = std::max(second, std::min(first, scores[i]));
    first = std::max(first, scores[i]);
  }
  return kind == GroupScore::largest || n == 1 ? first : first + second;
}

// Experts outside the best groups can't be chosen, however low the scores inside are.
void exclude_groups(const RouterRule& rule, float* scores) {
  const int size = rule.num_experts / rule.num_groups;
  float group_scores[kMaxExperts];
  int32_t kept[kMaxExperts];
  for (int g = 0; g < rule.num_groups; ++g) {
    group_scores[g] = group_score(scores + g * size, size, rule.group_score);
  }
  largest_indices(group_scores, rule.num_groups, rule.groups_per_token, kept);
  for (int g = 0; g < rule.num_groups; ++g) {
    if (std::find(kept, kept + rule.groups_per_token, g) != kept + rule.groups_per_token) continue;
    std::fill_n(scores + g * size, size, -std::numeric_limits<float>::infinity());
  }
}

void choose(const RouterRule& rule, float* z, int32_t* experts, float* weights) {
  const int n = rule.num_experts;
  const int k = rule.experts_per_token;
  rule.scoring == RouterScoring::softmax ? softmax(z, n) : sigmoid(z, n);
  float scores[kMaxExperts];
  for (int i = 0; i < n; ++i) scores[i] = rule.choice_bias == nullptr ? z[i] : z[i] + rule.choice_bias[i];
  if (rule.groups_per_token < rule.num_groups) exclude_groups(rule, scores);
  largest_indices(scores, n, k, experts);
  std::sort(experts, experts + k);
  float sum = 0.0F;
  for (int i = 0; i < k; ++i) sum += weights[i] = z[experts[i]];
  // Sigmoids may all be 0.
  const float factor = rule.renormalize ? rule.scale / (sum + 1e-20F) : rule.scale;
  for (int i = 0; i < k; ++i) weights[i] *= factor;
}

}  // namespace

void choose_experts(const RouterRule& rule, float* logits, int64_t num_tokens, int32_t* experts,
                    float* weights, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "choose_experts", {num_tokens});
  BIFOCAL_CHECK_LE(rule.num_experts, kMaxExperts);
  BIFOCAL_CHECK(rule.num_groups > 0 && rule.num_experts % rule.num_groups == 0);
  BIFOCAL_CHECK_LE(rule.experts_per_token, rule.num_experts / rule.num_groups * rule.groups_per_token);
  const int k = rule.experts_per_token;
  constexpr int64_t kValuesPerScore = 8;  // a score costs about as much as that many values elsewhere
  for_row_ranges(num_tokens, kValuesPerScore * rule.num_experts, pool, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      choose(rule, logits + t * rule.num_experts, experts + t * k, weights + t * k);
    }
  });
}

void sort_by_expert(std::span<const int32_t> experts, const ExpertOrder& order) {
  // Counting sort; begin[e + 1] first counts, then points behind what is placed.
  std::fill(order.begin.begin(), order.begin.end(), 0);
  for (const int32_t e : experts) ++order.begin[static_cast<size_t>(e) + 1];
  int32_t sum = 0;
  for (int32_t& count : order.begin.subspan(1)) {
    const int32_t own = count;
    count = sum;
    sum += own;
  }
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    const int32_t at = order.begin[static_cast<size_t>(experts[slot]) + 1]++;
    order.sorted[static_cast<size_t>(at)] = static_cast<int32_t>(slot);
    order.place[slot] = at;
  }
}

void gather_rows(const float* x, int64_t dim, std::span<const int32_t> slots, int experts_per_token,
                 float* out, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "gather_rows", {static_cast<int64_t>(slots.size())});
  for_row_ranges(static_cast<int64_t>(slots.size()), dim, pool, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t token = slots[static_cast<size_t>(i)] / experts_per_token;
      std::memcpy(out + i * dim, x + token * dim, static_cast<size_t>(dim) * sizeof(float));
    }
  });
}

void combine_rows(const CombineArgs& args, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "combine_rows", {args.count});
  const int64_t k = args.experts_per_token;
  const int64_t dim = args.dim;
  const auto num_tokens = static_cast<int64_t>(args.place.size()) / std::max<int64_t>(1, k);
  for_row_ranges(num_tokens, k * dim, pool, [&](int64_t first, int64_t last) {
    for (int64_t slot = first * k; slot < last * k; ++slot) {
      const int32_t at = args.place[static_cast<size_t>(slot)] - args.first;
      if (at < 0 || at >= args.count) continue;
      const float weight = args.weights[slot];
      const float* const row = args.rows + at * dim;
      float* const y = args.y + slot / k * dim;
      for (int64_t i = 0; i < dim; ++i) y[i] += weight * row[i];
    }
  });
}

}  // namespace bifocal::kernels::cpu
