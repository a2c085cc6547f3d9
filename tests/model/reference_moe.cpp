// The mixture-of-experts block of the reference decoder.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "model/reference_decoder.h"
#include "model/weight_list.h"

namespace bifocal::model {
namespace {

using Vector = std::vector<double>;

void score(const RouterSpec& router, Vector& z) {
  double sum = 0;
  const double largest = *std::max_element(z.begin(), z.end());
  for (double& v : z) {
    if (router.scoring == RouterSpec::Scoring::sigmoid) {
      v = 1.0 / (1.0 + std::exp(-v));
    } else {
      sum += v = std::exp(v - largest);
    }
  }
  if (router.scoring == RouterSpec::Scoring::softmax) {
    for (double& v : z) v /= sum;
  }
}

// Indices by score, largest first, the lower one among equals.
std::vector<size_t> ranking(const Vector& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

void exclude_groups(const RouterSpec& router, Vector& scores, Mistake mistake) {
  const auto groups = static_cast<size_t>(router.num_groups);
  const size_t size = scores.size() / groups;
  const bool two =
      router.group_score == RouterSpec::GroupScore::two_largest && mistake != Mistake::group_score_of_one;
  Vector group_scores;
  for (size_t g = 0; g < groups; ++g) {
    const auto begin = scores.begin() + static_cast<int64_t>(g * size);
    Vector group(begin, begin + static_cast<int64_t>(size));
    std::sort(group.rbegin(), group.rend());
    group_scores.push_back(two && size > 1 ? group[0] + group[1] : group[0]);
  }
  const auto order = ranking(group_scores);
  for (size_t i = static_cast<size_t>(router.groups_per_token); i < groups; ++i) {
    for (size_t e = order[i] * size; e < (order[i] + 1) * size; ++e) {
      scores[e] = -std::numeric_limits<double>::infinity();
    }
  }
}

double silu(double x, double steepness) {
  return x / (1.0 + std::exp(-steepness * x));
}

double activate(const MoeSpec& moe, double gate, double up, Mistake mistake) {
  if (mistake == Mistake::silu_of_up) std::swap(gate, up);
  const bool gelu = mistake == Mistake::gelu_for_silu;
  if (moe.activation == Activation::silu_mul) return silu(gate, gelu ? 1.702 : 1.0) * up;
  const double limit = moe.swiglu_limit;
  if (mistake != Mistake::clamp_dropped) {
    gate = std::min(gate, limit);
    up = std::clamp(up, -limit, limit);
  }
  if (mistake == Mistake::gate_clamped_below) gate = std::max(gate, -limit);
  return (mistake == Mistake::one_not_added_to_up ? up : up + 1.0) * silu(gate, gelu ? 1.0 : 1.702);
}

// Where gate or up i lies among the 2 I fused rows.
size_t fused_row(const MoeSpec& moe, size_t i, bool up, Mistake mistake) {
  const bool in_turns = (moe.layout == ExpertLayout::fused_in_out) != (mistake == Mistake::gate_up_in_halves);
  return in_turns ? 2 * i + (up ? 1 : 0) : i + (up ? static_cast<size_t>(moe.intermediate_size) : 0);
}

}  // namespace

// y = W x for one expert's matrix W [N, K], however the checkpoint keeps it.
ReferenceDecoder::Vector ReferenceDecoder::expert_product(size_t layer, size_t expert, ExpertMatrix matrix,
                                                          const Vector& x, Mistake mistake) const {
  const MoeSpec& moe = *spec_.layers[layer].moe;
  const std::string prefix = LayerNames(spec_, layer).plain(spec_.names.experts);
  const bool down = matrix == ExpertMatrix::down;
  if (moe.layout == ExpertLayout::separate) {
    constexpr const char* kParts[] = {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"};
    return linear(x, prefix + "." + std::to_string(expert) + kParts[static_cast<int>(matrix)], nullptr);
  }
  const auto inner = static_cast<size_t>(moe.intermediate_size);
  const size_t n = down ? static_cast<size_t>(spec_.hidden_size) : inner;
  const size_t n_fused = down ? n : 2 * inner;
  const Vector& w = weight(prefix + (down ? ".down_proj" : ".gate_up_proj"));
  Vector y(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    const size_t row = down ? i : fused_row(moe, i, matrix == ExpertMatrix::up, mistake);
    for (size_t k = 0; k < x.size(); ++k) {
      const size_t at = moe.layout == ExpertLayout::fused_in_out ? k * n_fused + row : row * x.size() + k;
      y[i] += w[expert * n_fused * x.size() + at] * x[k];
    }
  }
  return y;
}

ReferenceDecoder::Vector ReferenceDecoder::expert(size_t layer, size_t expert, const Vector& x,
                                                  Mistake mistake) const {
  const MoeSpec& moe = *spec_.layers[layer].moe;
  const std::string prefix = LayerNames(spec_, layer).plain(spec_.names.experts);
  const auto inner = static_cast<size_t>(moe.intermediate_size);
  Vector gate = expert_product(layer, expert, ExpertMatrix::gate, x, mistake);
  Vector up = expert_product(layer, expert, ExpertMatrix::up, x, mistake);
  for (size_t i = 0; i < inner; ++i) {
    if (moe.bias && mistake != Mistake::expert_gate_up_bias_dropped) {
      const Vector& bias = weight(prefix + ".gate_up_proj_bias");
      gate[i] += bias[expert * 2 * inner + fused_row(moe, i, false, mistake)];
      up[i] += bias[expert * 2 * inner + fused_row(moe, i, true, mistake)];
    }
    gate[i] = activate(moe, gate[i], up[i], mistake);
  }
  Vector out = expert_product(layer, expert, ExpertMatrix::down, gate, mistake);
  if (moe.bias && mistake != Mistake::expert_down_bias_dropped) {
    const Vector& bias = weight(prefix + ".down_proj_bias");
    for (size_t i = 0; i < out.size(); ++i) out[i] += bias[expert * out.size() + i];
  }
  return out;
}

ReferenceDecoder::Vector ReferenceDecoder::moe(size_t layer, const Vector& x, Mistake mistake) const {
  const MoeSpec& moe = *spec_.layers[layer].moe;
  const RouterSpec& router = moe.router;
  const WeightNames& names = spec_.names;
  const LayerNames name(spec_, layer);
  auto k = static_cast<size_t>(moe.experts_per_token);
  if (mistake == Mistake::one_expert_less) --k;

  const bool bias = router.bias && mistake != Mistake::router_bias_dropped;
  Vector scores = linear(x, name.weight(names.router), bias ? &weight(name.bias(names.router)) : nullptr);
  score(router, scores);
  Vector choice = scores;
  if (router.choice_bias && mistake != Mistake::choice_bias_dropped) {
    const Vector& added = weight(name.plain(names.choice_bias));
    for (size_t e = 0; e < choice.size(); ++e) choice[e] += added[e];
  }
  const Vector biased = choice;
  if (router.groups_per_token < router.num_groups && mistake != Mistake::groups_ignored) {
    exclude_groups(router, choice, mistake);
  }
  auto chosen = ranking(choice);
  chosen.resize(k);
  if (mistake == Mistake::next_best_expert) chosen.back() = ranking(choice)[k];

  const Vector& weighing = mistake == Mistake::weights_from_biased_scores ? biased : scores;
  Vector weights;
  double sum = 0;
  for (const size_t e : chosen) {
    weights.push_back(weighing[e]);
    sum += weighing[e];
  }
  const bool renormalize = router.renormalize != (mistake == Mistake::renormalize_flipped);
  const double scale = mistake == Mistake::routed_scale_dropped ? 1.0 : double{router.scale};
  for (double& w : weights) w *= scale / (renormalize ? sum : 1.0);

  Vector y(x.size(), 0.0);
  for (size_t i = 0; i < k; ++i) {
    const Vector out = expert(layer, chosen[i], x, mistake);
    for (size_t d = 0; d < y.size(); ++d) y[d] += weights[i] * out[d];
  }
  if (moe.shared_intermediate_size > 0 && mistake != Mistake::shared_expert_dropped) {
    const std::string& prefix = names.shared_expert;
    const Vector out =
        gated(layer, x, {prefix + ".gate_proj", prefix + ".up_proj", prefix + ".down_proj"}, false, mistake);
    const double factor = mistake == Mistake::routed_scale_on_shared ? scale : 1.0;
    for (size_t d = 0; d < y.size(); ++d) y[d] += factor * out[d];
  }
  return y;
}

}  // namespace bifocal::model
