// The decoder's equations written down once more, in double and without any of the kernels: the oracle for
// shapes and settings that no golden has, and a place for mistakes on purpose.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/mlp_block.h"
#include "model/spec.h"
#include "weights/weight_source.h"

namespace bifocal::model {

// One deliberate error each, of the kinds that ports of these models have had.
enum class Mistake {
  none,
  qk_norm_after_rope,
  qk_norm_over_all_heads,
  norm_after_residual,     // the residual takes the normed input
  scale_from_hidden_size,  // 1/sqrt(hidden / H)
  kv_head_modulo,          // h % HK instead of h / (H/HK)
  sees_one_key_ahead,      // causal mask off by one
  sees_one_key_less,
  window_one_wider,
  window_one_narrower,
  window_on_all_layers,
  window_on_no_layer,
  window_on_the_other_layers,
  rope_interleaved,
  rope_on_q_only,
  rope_also_on_v,
  attention_factor_dropped,
  attention_factor_squared,
  silu_of_up,  // gate and up swapped
  gelu_for_silu,
  final_norm_dropped,
  q_bias_dropped,
  k_bias_dropped,
  v_bias_dropped,
  output_bias_dropped,
  mlp_bias_dropped,
  eps_dropped,
  eps_times_ten,
  layers_reversed,
  output_is_embedding,  // although it is not tied
  sinks_dropped,
  sinks_scaled,  // as scores are
  router_bias_dropped,
  choice_bias_dropped,
  weights_from_biased_scores,
  groups_ignored,      // every group is kept
  group_score_of_one,  // the best expert instead of the best two
  one_expert_less,
  next_best_expert,     // takes the place of the last one chosen
  renormalize_flipped,  // softmax before or after the choice
  routed_scale_dropped,
  routed_scale_on_shared,
  shared_expert_dropped,
  gate_up_in_halves,  // for in turns, and the other way round
  clamp_dropped,
  gate_clamped_below,
  one_not_added_to_up,
  expert_gate_up_bias_dropped,
  expert_down_bias_dropped,
  kv_latent_norm_dropped,
  q_latent_norm_dropped,
  latent_norm_over_all,  // the rotated key is normed too
  latent_eps_is_the_layers_eps,
  latent_bias_dropped,
  latent_rope_on_first_dims,
  scale_without_rope_dims,
  softmax_correction_dropped,  // YaRN's
  softmax_correction_doubled,
};
constexpr int kNumMistakes = static_cast<int>(Mistake::softmax_correction_doubled) + 1;
std::string to_string(Mistake mistake);
// Whether the mistake would change anything for a model of this kind.
bool applies(Mistake mistake, const ModelSpec& spec);
// The same for those of latent attention.
bool latent_mistake_applies(Mistake mistake, const ModelSpec& spec);

class ReferenceDecoder {
 public:
  // Keeps a copy of the weights in double.
  ReferenceDecoder(ModelSpec spec, weights::WeightSource& source);

  // Logits [T][V] of a sequence from position 0.
  std::vector<std::vector<float>> forward(std::span<const int32_t> tokens,
                                          Mistake mistake = Mistake::none) const;

 private:
  using Vector = std::vector<double>;
  using Rows = std::vector<Vector>;
  const Vector& weight(const std::string& name) const { return weights_.at(name); }
  Vector linear(const Vector& x, const std::string& weight, const Vector* bias) const;
  const Vector* bias_of(size_t layer, const std::string& projection, bool present) const;
  Vector norm(std::span<const double> x, const Vector& w, Mistake mistake) const;
  static Vector norm(std::span<const double> x, const Vector& w, double eps);
  void rotate(std::span<double> head, int position, Mistake mistake) const;
  void norm_heads(Vector& heads, int num_heads, const Vector& w, Mistake mistake) const;
  Rows attention(size_t layer, const Rows& x, Mistake mistake) const;
  Rows latent_attention(size_t layer, const Rows& x, Mistake mistake) const;
  Vector gated(size_t layer, const Vector& x, const MlpNames& names, bool bias, Mistake mistake) const;
  Vector feed_forward(size_t layer, const Vector& x, Mistake mistake) const;

  enum class ExpertMatrix { gate, up, down };
  Vector expert_product(size_t layer, size_t expert, ExpertMatrix matrix, const Vector& x,
                        Mistake mistake) const;
  Vector expert(size_t layer, size_t expert, const Vector& x, Mistake mistake) const;
  Vector moe(size_t layer, const Vector& x, Mistake mistake) const;

  ModelSpec spec_;
  std::map<std::string, Vector> weights_;
};

}  // namespace bifocal::model
