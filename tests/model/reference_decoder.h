// The decoder's equations written down once more, in double and without any of the kernels: the oracle for
// shapes and settings that no golden has, and a place for mistakes on purpose.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

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
};
constexpr int kNumMistakes = static_cast<int>(Mistake::output_is_embedding) + 1;
std::string to_string(Mistake mistake);
// Whether the mistake would change anything for a model of this kind.
bool applies(Mistake mistake, const ModelSpec& spec);

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
  void rotate(std::span<double> head, int position, Mistake mistake) const;
  void norm_heads(Vector& heads, int num_heads, const Vector& w, Mistake mistake) const;
  Rows attention(size_t layer, const Rows& x, Mistake mistake) const;
  Vector mlp(size_t layer, const Vector& x, Mistake mistake) const;

  ModelSpec spec_;
  std::map<std::string, Vector> weights_;
};

}  // namespace bifocal::model
