#include "model/reference_decoder.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "model/expected_weights.h"

namespace bifocal::model {
namespace {

double element(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::f16:
      return to_float(view.as<Float16>()[i]);
    case DType::bf16:
      return to_float(view.as<BFloat16>()[i]);
    default:
      return view.as<float>()[i];
  }
}

// Where element i in row-major order lies.
int64_t offset(const TensorView& view, int64_t i) {
  int64_t at = 0;
  for (auto dim = static_cast<size_t>(view.rank); dim-- > 0;) {
    at += i % view.shape[dim] * view.strides[dim];
    i /= view.shape[dim];
  }
  return at;
}

struct MistakeName {
  Mistake mistake;
  const char* name;
};
constexpr MistakeName kNames[] = {
    {Mistake::none, "none"},
    {Mistake::qk_norm_after_rope, "qk_norm_after_rope"},
    {Mistake::qk_norm_over_all_heads, "qk_norm_over_all_heads"},
    {Mistake::norm_after_residual, "norm_after_residual"},
    {Mistake::scale_from_hidden_size, "scale_from_hidden_size"},
    {Mistake::kv_head_modulo, "kv_head_modulo"},
    {Mistake::sees_one_key_ahead, "sees_one_key_ahead"},
    {Mistake::sees_one_key_less, "sees_one_key_less"},
    {Mistake::window_one_wider, "window_one_wider"},
    {Mistake::window_one_narrower, "window_one_narrower"},
    {Mistake::window_on_all_layers, "window_on_all_layers"},
    {Mistake::window_on_no_layer, "window_on_no_layer"},
    {Mistake::window_on_the_other_layers, "window_on_the_other_layers"},
    {Mistake::rope_interleaved, "rope_interleaved"},
    {Mistake::rope_on_q_only, "rope_on_q_only"},
    {Mistake::rope_also_on_v, "rope_also_on_v"},
    {Mistake::attention_factor_dropped, "attention_factor_dropped"},
    {Mistake::attention_factor_squared, "attention_factor_squared"},
    {Mistake::silu_of_up, "silu_of_up"},
    {Mistake::gelu_for_silu, "gelu_for_silu"},
    {Mistake::final_norm_dropped, "final_norm_dropped"},
    {Mistake::q_bias_dropped, "q_bias_dropped"},
    {Mistake::k_bias_dropped, "k_bias_dropped"},
    {Mistake::v_bias_dropped, "v_bias_dropped"},
    {Mistake::output_bias_dropped, "output_bias_dropped"},
    {Mistake::mlp_bias_dropped, "mlp_bias_dropped"},
    {Mistake::eps_dropped, "eps_dropped"},
    {Mistake::eps_times_ten, "eps_times_ten"},
    {Mistake::layers_reversed, "layers_reversed"},
    {Mistake::output_is_embedding, "output_is_embedding"},
    {Mistake::sinks_dropped, "sinks_dropped"},
    {Mistake::sinks_scaled, "sinks_scaled"},
    {Mistake::router_bias_dropped, "router_bias_dropped"},
    {Mistake::choice_bias_dropped, "choice_bias_dropped"},
    {Mistake::weights_from_biased_scores, "weights_from_biased_scores"},
    {Mistake::groups_ignored, "groups_ignored"},
    {Mistake::group_score_of_one, "group_score_of_one"},
    {Mistake::one_expert_less, "one_expert_less"},
    {Mistake::next_best_expert, "next_best_expert"},
    {Mistake::renormalize_flipped, "renormalize_flipped"},
    {Mistake::routed_scale_dropped, "routed_scale_dropped"},
    {Mistake::routed_scale_on_shared, "routed_scale_on_shared"},
    {Mistake::shared_expert_dropped, "shared_expert_dropped"},
    {Mistake::gate_up_in_halves, "gate_up_in_halves"},
    {Mistake::clamp_dropped, "clamp_dropped"},
    {Mistake::gate_clamped_below, "gate_clamped_below"},
    {Mistake::one_not_added_to_up, "one_not_added_to_up"},
    {Mistake::expert_gate_up_bias_dropped, "expert_gate_up_bias_dropped"},
    {Mistake::expert_down_bias_dropped, "expert_down_bias_dropped"},
    {Mistake::kv_latent_norm_dropped, "kv_latent_norm_dropped"},
    {Mistake::q_latent_norm_dropped, "q_latent_norm_dropped"},
    {Mistake::latent_norm_over_all, "latent_norm_over_all"},
    {Mistake::latent_eps_is_the_layers_eps, "latent_eps_is_the_layers_eps"},
    {Mistake::latent_bias_dropped, "latent_bias_dropped"},
    {Mistake::latent_rope_on_first_dims, "latent_rope_on_first_dims"},
    {Mistake::scale_without_rope_dims, "scale_without_rope_dims"},
    {Mistake::softmax_correction_dropped, "softmax_correction_dropped"},
    {Mistake::softmax_correction_doubled, "softmax_correction_doubled"},
};
static_assert(std::size(kNames) == kNumMistakes);

}  // namespace

std::string to_string(Mistake mistake) {
  for (const MistakeName& entry : kNames) {
    if (entry.mistake == mistake) return entry.name;
  }
  return "unknown";
}

bool applies(Mistake mistake, const ModelSpec& spec) {
  const auto any = [&](auto&& test) { return std::any_of(spec.layers.begin(), spec.layers.end(), test); };
  const auto window = [](const LayerSpec& layer) { return layer.attention.window > 0; };
  const auto full = [](const LayerSpec& layer) { return layer.attention.window == 0; };
  const AttentionSpec& attention = spec.layers.front().attention;
  const auto any_moe = [&](auto&& test) {
    return any([&](const LayerSpec& layer) { return layer.moe && test(*layer.moe); });
  };
  const bool has_latents = spec.layers.front().mla.has_value();
  if (mistake >= Mistake::kv_latent_norm_dropped) return latent_mistake_applies(mistake, spec);
  switch (mistake) {
    case Mistake::qk_norm_after_rope:
    case Mistake::qk_norm_over_all_heads:
      return attention.qk_norm;
    case Mistake::scale_from_hidden_size:
      return !has_latents && spec.hidden_size != attention.num_heads * attention.head_dim;
    case Mistake::kv_head_modulo:
      return attention.num_kv_heads > 1 && attention.num_kv_heads < attention.num_heads;
    case Mistake::window_one_wider:
    case Mistake::window_one_narrower:
    case Mistake::window_on_no_layer:
      return any(window);
    case Mistake::window_on_all_layers:
    case Mistake::window_on_the_other_layers:
      return any(window) && any(full);
    case Mistake::attention_factor_dropped:
    case Mistake::attention_factor_squared:
      return spec.rope.attention_factor != 1.0F;
    case Mistake::q_bias_dropped:
    case Mistake::k_bias_dropped:
    case Mistake::v_bias_dropped:
      return attention.qkv_bias;
    case Mistake::output_bias_dropped:
      return spec.layers.front().attention_out_bias();
    case Mistake::rope_also_on_v:
      return !has_latents;
    case Mistake::mlp_bias_dropped:
      return spec.layers.front().mlp.bias;
    case Mistake::sinks_dropped:
    case Mistake::sinks_scaled:
      return attention.sinks;
    case Mistake::router_bias_dropped:
      return any_moe([](const MoeSpec& moe) { return moe.router.bias; });
    case Mistake::choice_bias_dropped:
    case Mistake::weights_from_biased_scores:
      return any_moe([](const MoeSpec& moe) { return moe.router.choice_bias; });
    case Mistake::groups_ignored:
      return any_moe([](const MoeSpec& moe) { return moe.router.groups_per_token < moe.router.num_groups; });
    case Mistake::group_score_of_one:
      return any_moe([](const MoeSpec& moe) {
        return moe.router.groups_per_token < moe.router.num_groups &&
               moe.router.group_score == RouterSpec::GroupScore::two_largest;
      });
    case Mistake::one_expert_less:
    case Mistake::next_best_expert:
    case Mistake::renormalize_flipped:
      return any_moe([](const MoeSpec& moe) { return moe.experts_per_token > 1; });
    case Mistake::routed_scale_dropped:
      return any_moe([](const MoeSpec& moe) { return moe.router.scale != 1.0F; });
    case Mistake::routed_scale_on_shared:
      return any_moe(
          [](const MoeSpec& moe) { return moe.router.scale != 1.0F && moe.shared_intermediate_size > 0; });
    case Mistake::shared_expert_dropped:
      return any_moe([](const MoeSpec& moe) { return moe.shared_intermediate_size > 0; });
    case Mistake::gate_up_in_halves:
      return any_moe([](const MoeSpec& moe) { return moe.layout != ExpertLayout::separate; });
    case Mistake::clamp_dropped:
    case Mistake::gate_clamped_below:
    case Mistake::one_not_added_to_up:
      return any_moe([](const MoeSpec& moe) { return moe.activation == Activation::clamped_swiglu; });
    case Mistake::expert_gate_up_bias_dropped:
    case Mistake::expert_down_bias_dropped:
      return any_moe([](const MoeSpec& moe) { return moe.bias; });
    case Mistake::layers_reversed:
      return spec.layers.size() > 1;
    case Mistake::output_is_embedding:
      return !spec.tied_output;
    default:
      return true;
  }
}

ReferenceDecoder::ReferenceDecoder(ModelSpec spec, weights::WeightSource& source) : spec_(std::move(spec)) {
  Tensor staging;
  for (const ExpectedWeight& expected : expected_weights(spec_)) {
    const auto view = source.read(expected.name, expected.shape, staging);
    if (!view.ok()) check_failed(__FILE__, __LINE__, "view.ok()", view.status().message());
    Vector& values = weights_[expected.name];
    for (int64_t i = 0; i < view->num_elements(); ++i) values.push_back(element(*view, offset(*view, i)));
  }
}

ReferenceDecoder::Vector ReferenceDecoder::linear(const Vector& x, const std::string& name,
                                                  const Vector* bias) const {
  const Vector& w = weight(name);
  Vector y(w.size() / x.size());
  for (size_t n = 0; n < y.size(); ++n) {
    double sum = bias != nullptr ? (*bias)[n] : 0.0;
    for (size_t k = 0; k < x.size(); ++k) sum += w[n * x.size() + k] * x[k];
    y[n] = sum;
  }
  return y;
}

const ReferenceDecoder::Vector* ReferenceDecoder::bias_of(size_t layer, const std::string& projection,
                                                          bool present) const {
  return present ? &weight(LayerNames(spec_, layer).bias(projection)) : nullptr;
}

ReferenceDecoder::Vector ReferenceDecoder::norm(std::span<const double> x, const Vector& w,
                                                Mistake mistake) const {
  double eps = spec_.norm_eps;
  if (mistake == Mistake::eps_dropped) eps = 0;
  if (mistake == Mistake::eps_times_ten) eps *= 10;
  return norm(x, w, eps);
}

ReferenceDecoder::Vector ReferenceDecoder::norm(std::span<const double> x, const Vector& w, double eps) {
  double square = 0;
  for (const double v : x) square += v * v;
  const double factor = 1.0 / std::sqrt(square / static_cast<double>(x.size()) + eps);
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * factor * w[i % w.size()];
  return y;
}

void ReferenceDecoder::rotate(std::span<double> head, int position, Mistake mistake) const {
  const size_t half = spec_.rope.inv_freq.size();
  double factor = spec_.rope.attention_factor;
  if (mistake == Mistake::attention_factor_dropped) factor = 1;
  if (mistake == Mistake::attention_factor_squared) factor *= factor;
  const bool interleaved =
      (spec_.rope.style == kernels::cpu::RopeStyle::interleaved) != (mistake == Mistake::rope_interleaved);
  for (size_t j = 0; j < half; ++j) {
    const double angle = position * static_cast<double>(spec_.rope.inv_freq[j]);
    double& a = head[interleaved ? 2 * j : j];
    double& b = head[interleaved ? 2 * j + 1 : j + half];
    const double x = a;
    const double y = b;
    a = (x * std::cos(angle) - y * std::sin(angle)) * factor;
    b = (y * std::cos(angle) + x * std::sin(angle)) * factor;
  }
}

void ReferenceDecoder::norm_heads(Vector& heads, int num_heads, const Vector& w, Mistake mistake) const {
  const size_t dim = heads.size() / static_cast<size_t>(num_heads);
  if (mistake == Mistake::qk_norm_over_all_heads) {
    heads = norm(heads, w, mistake);
    return;
  }
  for (size_t h = 0; h < static_cast<size_t>(num_heads); ++h) {
    const Vector normed = norm({heads.data() + h * dim, dim}, w, mistake);
    std::copy(normed.begin(), normed.end(), heads.begin() + static_cast<int64_t>(h * dim));
  }
}

ReferenceDecoder::Rows ReferenceDecoder::attention(size_t layer, const Rows& x, Mistake mistake) const {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const WeightNames& names = spec_.names;
  const std::string prefix = LayerNames(spec_, layer).plain("");
  const auto dim = static_cast<size_t>(spec.head_dim);
  Rows q, k, v;
  for (size_t t = 0; t < x.size(); ++t) {
    const auto project = [&](const std::string& name, Mistake dropped) {
      return linear(x[t], prefix + name + ".weight",
                    bias_of(layer, name, spec.qkv_bias && mistake != dropped));
    };
    q.push_back(project(names.q_proj, Mistake::q_bias_dropped));
    k.push_back(project(names.k_proj, Mistake::k_bias_dropped));
    v.push_back(project(names.v_proj, Mistake::v_bias_dropped));
    const auto norms = [&] {
      if (!spec.qk_norm) return;
      norm_heads(q[t], spec.num_heads, weight(prefix + names.q_norm), mistake);
      norm_heads(k[t], spec.num_kv_heads, weight(prefix + names.k_norm), mistake);
    };
    const auto rotate_heads = [&](Vector& heads) {
      for (size_t at = 0; at < heads.size(); at += dim)
        rotate({heads.data() + at, dim}, static_cast<int>(t), mistake);
    };
    if (mistake != Mistake::qk_norm_after_rope) norms();
    rotate_heads(q[t]);
    if (mistake != Mistake::rope_on_q_only) rotate_heads(k[t]);
    if (mistake == Mistake::rope_also_on_v) rotate_heads(v[t]);
    if (mistake == Mistake::qk_norm_after_rope) norms();
  }

  int window = spec.window;
  int widest = 0;
  for (const LayerSpec& other : spec_.layers) widest = std::max(widest, other.attention.window);
  if (mistake == Mistake::window_one_wider && window > 0) ++window;
  if (mistake == Mistake::window_one_narrower && window > 0) --window;
  if (mistake == Mistake::window_on_all_layers) window = widest;
  if (mistake == Mistake::window_on_no_layer) window = 0;
  if (mistake == Mistake::window_on_the_other_layers) window = window > 0 ? 0 : widest;
  double scale = spec.scale;
  if (mistake == Mistake::scale_from_hidden_size) scale = std::sqrt(1.0 * spec.num_heads / spec_.hidden_size);
  const auto num_tokens = static_cast<int>(x.size());
  Rows out(x.size(), Vector(static_cast<size_t>(spec.num_heads) * dim, 0.0));
  for (int t = 0; t < num_tokens; ++t) {
    int last = t;
    if (mistake == Mistake::sees_one_key_ahead) last = std::min(t + 1, num_tokens - 1);
    if (mistake == Mistake::sees_one_key_less) last = std::max(t - 1, 0);
    const int first = window > 0 ? std::max(0, t - window + 1) : 0;
    for (int h = 0; h < spec.num_heads; ++h) {
      const int kv_head = mistake == Mistake::kv_head_modulo ? h % spec.num_kv_heads
                                                             : h / (spec.num_heads / spec.num_kv_heads);
      const auto q_at = static_cast<size_t>(h) * dim;
      const auto kv_at = static_cast<size_t>(kv_head) * dim;
      Vector weights;
      double largest = -std::numeric_limits<double>::infinity();
      for (int s = first; s <= last; ++s) {
        double score = 0;
        for (size_t d = 0; d < dim; ++d) {
          score += q[static_cast<size_t>(t)][q_at + d] * k[static_cast<size_t>(s)][kv_at + d];
        }
        weights.push_back(score * scale);
        largest = std::max(largest, weights.back());
      }
      double sum = 0;
      if (spec.sinks && mistake != Mistake::sinks_dropped) {
        double sink = weight(prefix + names.sinks)[static_cast<size_t>(h)];
        if (mistake == Mistake::sinks_scaled) sink *= scale;
        sum = std::exp(sink - largest);
      }
      for (double& w : weights) sum += w = std::exp(w - largest);
      for (int s = first; s <= last; ++s) {
        const double p = weights[static_cast<size_t>(s - first)] / sum;
        for (size_t d = 0; d < dim; ++d) {
          out[static_cast<size_t>(t)][q_at + d] += p * v[static_cast<size_t>(s)][kv_at + d];
        }
      }
    }
  }
  const bool bias = spec.output_bias && mistake != Mistake::output_bias_dropped;
  for (Vector& row : out)
    row = linear(row, prefix + names.o_proj + ".weight", bias_of(layer, names.o_proj, bias));
  return out;
}

ReferenceDecoder::Vector ReferenceDecoder::gated(size_t layer, const Vector& x, const MlpNames& names,
                                                 bool bias, Mistake mistake) const {
  const std::string prefix = LayerNames(spec_, layer).plain("");
  const auto project = [&](const Vector& in, const std::string& name) {
    return linear(in, prefix + name + ".weight", bias_of(layer, name, bias));
  };
  Vector gate = project(x, names.gate);
  Vector up = project(x, names.up);
  if (mistake == Mistake::silu_of_up) std::swap(gate, up);
  for (size_t i = 0; i < gate.size(); ++i) {
    const double steepness = mistake == Mistake::gelu_for_silu ? 1.702 : 1.0;
    gate[i] = gate[i] / (1.0 + std::exp(-steepness * gate[i])) * up[i];
  }
  return project(gate, names.down);
}

ReferenceDecoder::Vector ReferenceDecoder::feed_forward(size_t layer, const Vector& x,
                                                        Mistake mistake) const {
  if (spec_.layers[layer].moe) return moe(layer, x, mistake);
  const bool bias = spec_.layers[layer].mlp.bias && mistake != Mistake::mlp_bias_dropped;
  return gated(layer, x, dense_mlp_names(spec_.names), bias, mistake);
}

std::vector<std::vector<float>> ReferenceDecoder::forward(std::span<const int32_t> tokens,
                                                          Mistake mistake) const {
  const auto hidden = static_cast<size_t>(spec_.hidden_size);
  const Vector& embedding = weight(spec_.names.embedding);
  Rows x;
  for (const int32_t token : tokens) {
    const auto row = embedding.begin() + static_cast<int64_t>(static_cast<size_t>(token) * hidden);
    x.emplace_back(row, row + static_cast<int64_t>(hidden));
  }
  const auto add = [](Vector& to, const Vector& from) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const size_t layer = mistake == Mistake::layers_reversed ? spec_.layers.size() - 1 - i : i;
    const std::string prefix = LayerNames(spec_, layer).plain("");
    Rows normed;
    for (const Vector& row : x)
      normed.push_back(norm(row, weight(prefix + spec_.names.attention_norm), mistake));
    if (mistake == Mistake::norm_after_residual) x = normed;
    const Rows attended = spec_.layers[layer].mla ? latent_attention(layer, normed, mistake)
                                                  : attention(layer, normed, mistake);
    for (size_t t = 0; t < x.size(); ++t) {
      add(x[t], attended[t]);
      const Vector in = norm(x[t], weight(prefix + spec_.names.mlp_norm), mistake);
      if (mistake == Mistake::norm_after_residual) x[t] = in;
      add(x[t], feed_forward(layer, in, mistake));
    }
  }
  const bool tied = spec_.tied_output || mistake == Mistake::output_is_embedding;
  std::vector<std::vector<float>> logits;
  for (const Vector& row : x) {
    const Vector last =
        mistake == Mistake::final_norm_dropped ? row : norm(row, weight(spec_.names.final_norm), mistake);
    const Vector out = linear(last, tied ? spec_.names.embedding : spec_.names.output, nullptr);
    logits.emplace_back(out.begin(), out.end());
  }
  return logits;
}

}  // namespace bifocal::model
