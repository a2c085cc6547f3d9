// Multi-head latent attention of the oracle: every head's keys and values spelled out (DeepSeek-V2,
// arXiv 2405.04434, equations 9 to 19).
#include <algorithm>
#include <cmath>
#include <limits>

#include "model/reference_decoder.h"
#include "model/weight_list.h"

namespace bifocal::model {

namespace {

// What YaRN multiplies the scale by.
double yarn_correction(const MlaSpec& mla) {
  return static_cast<double>(mla.scale) * std::sqrt(static_cast<double>(mla.qk_head_dim()));
}

}  // namespace

ReferenceDecoder::Rows ReferenceDecoder::latent_attention(size_t layer, const Rows& x,
                                                          Mistake mistake) const {
  const MlaSpec& mla = *spec_.layers[layer].mla;
  const WeightNames& names = spec_.names;
  const LayerNames name(spec_, layer);
  const auto heads = static_cast<size_t>(mla.num_heads);
  const auto nope = static_cast<size_t>(mla.qk_nope_head_dim);
  const auto rope = static_cast<size_t>(mla.qk_rope_head_dim);
  const auto value = static_cast<size_t>(mla.v_head_dim);
  const auto rank = static_cast<size_t>(mla.kv_lora_rank);
  const bool bias = mla.bias && mistake != Mistake::latent_bias_dropped;
  const auto latent_norm = [&](std::span<const double> latent, const std::string& weights) {
    const double eps = mistake == Mistake::latent_eps_is_the_layers_eps ? static_cast<double>(spec_.norm_eps)
                                                                        : static_cast<double>(mla.norm_eps);
    return norm(latent, weight(name.plain(weights)), eps);
  };

  Rows q, k, v;
  for (size_t t = 0; t < x.size(); ++t) {
    const int position = static_cast<int>(t);
    Vector query;
    if (mla.q_lora_rank > 0) {
      Vector latent = linear(x[t], name.weight(names.q_a_proj), bias_of(layer, names.q_a_proj, bias));
      if (mistake != Mistake::q_latent_norm_dropped) latent = latent_norm(latent, names.q_a_norm);
      query = linear(latent, name.weight(names.q_b_proj), nullptr);
    } else {
      query = linear(x[t], name.weight(names.q_proj), nullptr);
    }
    const size_t rope_at = mistake == Mistake::latent_rope_on_first_dims ? 0 : nope;
    for (size_t h = 0; h < heads; ++h) {
      rotate({query.data() + h * (nope + rope) + rope_at, rope}, position, mistake);
    }
    q.push_back(query);

    Vector joint = linear(x[t], name.weight(names.kv_a_proj), bias_of(layer, names.kv_a_proj, bias));
    Vector latent(joint.begin(), joint.begin() + static_cast<int64_t>(rank));
    if (mistake != Mistake::kv_latent_norm_dropped) latent = latent_norm(latent, names.kv_a_norm);
    const std::span<double> shared(joint.data() + rank, rope);
    if (mistake == Mistake::latent_norm_over_all) {
      const Vector ones(rank + rope, 1.0);
      const Vector all = norm(joint, ones, static_cast<double>(mla.norm_eps));
      std::copy(all.begin() + static_cast<int64_t>(rank), all.end(), shared.begin());
    }
    if (mistake != Mistake::rope_on_q_only) rotate(shared, position, mistake);
    const Vector up = linear(latent, name.weight(names.kv_b_proj), nullptr);
    Vector keys, values;
    for (size_t h = 0; h < heads; ++h) {
      const auto head = up.begin() + static_cast<int64_t>(h * (nope + value));
      keys.insert(keys.end(), head, head + static_cast<int64_t>(nope));
      keys.insert(keys.end(), shared.begin(), shared.end());
      values.insert(values.end(), head + static_cast<int64_t>(nope),
                    head + static_cast<int64_t>(nope + value));
    }
    k.push_back(keys);
    v.push_back(values);
  }

  double scale = mla.scale;
  if (mistake == Mistake::softmax_correction_dropped) scale /= yarn_correction(mla);
  if (mistake == Mistake::softmax_correction_doubled) scale *= yarn_correction(mla);
  if (mistake == Mistake::scale_without_rope_dims) {
    scale *= std::sqrt(static_cast<double>(nope + rope) / static_cast<double>(nope));
  }
  const auto num_tokens = static_cast<int>(x.size());
  Rows out(x.size(), Vector(heads * value, 0.0));
  for (int t = 0; t < num_tokens; ++t) {
    int last = t;
    if (mistake == Mistake::sees_one_key_ahead) last = std::min(t + 1, num_tokens - 1);
    if (mistake == Mistake::sees_one_key_less) last = std::max(t - 1, 0);
    for (size_t h = 0; h < heads; ++h) {
      Vector weights;
      double largest = -std::numeric_limits<double>::infinity();
      for (int s = 0; s <= last; ++s) {
        double score = 0;
        for (size_t d = h * (nope + rope); d < (h + 1) * (nope + rope); ++d) {
          score += q[static_cast<size_t>(t)][d] * k[static_cast<size_t>(s)][d];
        }
        weights.push_back(score * scale);
        largest = std::max(largest, weights.back());
      }
      double sum = 0;
      for (double& w : weights) sum += w = std::exp(w - largest);
      for (int s = 0; s <= last; ++s) {
        const double p = weights[static_cast<size_t>(s)] / sum;
        for (size_t d = h * value; d < (h + 1) * value; ++d) {
          out[static_cast<size_t>(t)][d] += p * v[static_cast<size_t>(s)][d];
        }
      }
    }
  }
  const bool out_bias = bias && mistake != Mistake::output_bias_dropped;
  for (Vector& row : out) {
    row = linear(row, name.weight(names.o_proj), bias_of(layer, names.o_proj, out_bias));
  }
  return out;
}

bool latent_mistake_applies(Mistake mistake, const ModelSpec& spec) {
  const auto& mla = spec.layers.front().mla;
  switch (mistake) {
    case Mistake::kv_latent_norm_dropped:
    case Mistake::latent_norm_over_all:
    case Mistake::latent_rope_on_first_dims:
    case Mistake::scale_without_rope_dims:
      return mla.has_value();
    case Mistake::q_latent_norm_dropped:
      return mla && mla->q_lora_rank > 0;
    case Mistake::latent_eps_is_the_layers_eps:
      return mla && mla->norm_eps != spec.norm_eps;
    case Mistake::latent_bias_dropped:
      return mla && mla->bias;
    case Mistake::softmax_correction_dropped:
    case Mistake::softmax_correction_doubled:
      return mla && std::abs(yarn_correction(*mla) - 1.0) > 1e-5;
    default:
      return false;
  }
}

}  // namespace bifocal::model
