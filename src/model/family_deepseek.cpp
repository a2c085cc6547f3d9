// DeepSeek V2, V2-Lite (arXiv 2405.04434), V3 and R1 (arXiv 2412.19437): multi-head latent attention, and
// from the first_k_dense_replace-th layer on a mixture of experts with shared ones. Multi-token prediction
// layers are left out. Where transformers' V2 differs from the authors' own code, the latter is followed:
// YaRN's correction of the softmax scale, and renormalised weights that are not scaled.
#include <fmt/format.h>

#include <cmath>

#include "model/dense_family.h"
#include "model/families.h"
#include "model/moe_config.h"
#include "model/rope.h"

namespace bifocal::model {
namespace {

using weights::ModelConfig;

// The authors' constructors give the latents' norms this epsilon, whatever rms_norm_eps says.
constexpr float kLatentNormEps = 1e-6F;

Expected<JsonReader> open_document(const ModelConfig& config) {
  return JsonReader::open(config.document);
}

Expected<int> integer(const ModelConfig& config, std::string_view key, int64_t min, int64_t max,
                      std::optional<int> fallback) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, open_document(config));
  const auto value = reader.get_int(key, min, max);
  if (!value.ok()) return value.status().with_context(config.path);
  if (*value) return static_cast<int>(**value);
  if (!fallback) return config.error(fmt::format("{}: missing", key));
  return *fallback;
}

// One of the names; the first where the field is absent.
Expected<std::string> one_of(const ModelConfig& config, std::string_view key,
                             const std::vector<std::string>& names) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, open_document(config));
  const auto value = reader.get_string(key, 64);
  if (!value.ok()) return value.status().with_context(config.path);
  if (!*value) return names.front();
  for (const std::string& name : names) {
    if (name == **value) return name;
  }
  std::string shown;
  append_json_string(shown, **value);
  return unsupported(
      fmt::format("{}: {}: got {}, expected one of {}", config.path, key, shown, fmt::join(names, ", ")));
}

// YaRN stretches the softmax's temperature too: its square multiplies the scale.
double yarn_scale(const weights::RopeConfig& rope) {
  if (rope.type != weights::RopeType::yarn || rope.mscale_all_dim == 0.0 || rope.factor <= 1.0) return 1.0;
  const double magnitude = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1.0;
  return magnitude * magnitude;
}

Expected<MlaSpec> read_mla(const ModelConfig& config) {
  constexpr int64_t kMaxRank = 2048;  // a row of the cache holds rank + rotated dims
  constexpr int64_t kMaxHeadDim = 1024;
  MlaSpec mla;
  mla.num_heads = config.num_heads;
  BIFOCAL_ASSIGN_OR_RETURN(mla.q_lora_rank, integer(config, "q_lora_rank", 1, int64_t{1} << 20, 0));
  BIFOCAL_ASSIGN_OR_RETURN(mla.kv_lora_rank, integer(config, "kv_lora_rank", 1, kMaxRank, std::nullopt));
  BIFOCAL_ASSIGN_OR_RETURN(mla.qk_nope_head_dim,
                           integer(config, "qk_nope_head_dim", 1, kMaxHeadDim, std::nullopt));
  BIFOCAL_ASSIGN_OR_RETURN(mla.qk_rope_head_dim,
                           integer(config, "qk_rope_head_dim", 2, kMaxHeadDim, std::nullopt));
  BIFOCAL_ASSIGN_OR_RETURN(mla.v_head_dim, integer(config, "v_head_dim", 1, kMaxHeadDim, std::nullopt));
  if (mla.qk_rope_head_dim % 2 != 0) {
    return config.error(
        fmt::format("qk_rope_head_dim: got {}, expected an even number", mla.qk_rope_head_dim));
  }
  if (mla.latent_dim() > kMaxRank) {
    return config.error(fmt::format("kv_lora_rank {} and qk_rope_head_dim {}: expected at most {} together",
                                    mla.kv_lora_rank, mla.qk_rope_head_dim, kMaxRank));
  }
  mla.scale = static_cast<float>(yarn_scale(config.rope) / std::sqrt(static_cast<double>(mla.qk_head_dim())));
  mla.norm_eps = kLatentNormEps;
  mla.bias = config.attention_bias;
  return mla;
}

// What V2 and V3 have in common; the router's rule is the family's.
Expected<MoeSpec> read_experts(const ModelConfig& config) {
  const MoeConfig fields(config);
  MoeSpec moe;
  BIFOCAL_ASSIGN_OR_RETURN(moe.num_experts,
                           integer(config, "n_routed_experts", 1, kernels::cpu::kMaxExperts, std::nullopt));
  BIFOCAL_ASSIGN_OR_RETURN(moe.experts_per_token, fields.experts_per_token(moe.num_experts));
  BIFOCAL_ASSIGN_OR_RETURN(moe.intermediate_size, fields.width("moe_intermediate_size"));
  BIFOCAL_ASSIGN_OR_RETURN(const int shared, integer(config, "n_shared_experts", 0, 64, 0));
  moe.shared_intermediate_size = shared * moe.intermediate_size;
  BIFOCAL_ASSIGN_OR_RETURN(moe.router.renormalize, fields.flag("norm_topk_prob", false));
  BIFOCAL_ASSIGN_OR_RETURN(const double scale, fields.number("routed_scaling_factor", 0.0, 1e6, 1.0));
  moe.router.scale = static_cast<float>(scale);
  return moe;
}

Status read_groups(const ModelConfig& config, MoeSpec& moe) {
  RouterSpec& router = moe.router;
  BIFOCAL_ASSIGN_OR_RETURN(router.num_groups, integer(config, "n_group", 1, moe.num_experts, 1));
  BIFOCAL_ASSIGN_OR_RETURN(router.groups_per_token, integer(config, "topk_group", 1, router.num_groups, 1));
  if (moe.num_experts % router.num_groups != 0) {
    return config.error(fmt::format("n_routed_experts: got {}, expected a multiple of n_group {}",
                                    moe.num_experts, router.num_groups));
  }
  const int choices = moe.num_experts / router.num_groups * router.groups_per_token;
  if (moe.experts_per_token > choices) {
    return config.error(
        fmt::format("num_experts_per_tok: got {}, expected at most the {} experts of "
                    "topk_group {} of n_group {} groups",
                    moe.experts_per_token, choices, router.groups_per_token, router.num_groups));
  }
  return {};
}

Status refuse_other(const ModelConfig& config, std::string_view key, int64_t supported) {
  BIFOCAL_ASSIGN_OR_RETURN(const int value,
                           integer(config, key, INT32_MIN, INT32_MAX, static_cast<int>(supported)));
  if (value == supported) return {};
  return unsupported(fmt::format("{}: {}: got {}, expected {}", config.path, key, value, supported));
}

Expected<ModelSpec> make_deepseek_spec(const ModelConfig& config, const MoeSpec& moe) {
  DenseTraits traits;
  traits.default_max_positions = 4096;
  // Neither is what it says in these models: the heads' dims are below.
  traits.default_head_dim = 2;
  traits.own_settings = {"n_routed_experts", "kv_lora_rank", "rope_interleave"};
  BIFOCAL_ASSIGN_OR_RETURN(ModelSpec spec, make_dense_spec(config, traits));
  BIFOCAL_ASSIGN_OR_RETURN(const MlaSpec mla, read_mla(config));
  BIFOCAL_ASSIGN_OR_RETURN(const bool interleaved, MoeConfig(config).flag("rope_interleave", true));
  BIFOCAL_ASSIGN_OR_RETURN(const int first_sparse,
                           integer(config, "first_k_dense_replace", 0, config.num_layers, 0));
  BIFOCAL_RETURN_IF_ERROR(refuse_other(config, "moe_layer_freq", 1));
  spec.rope = make_rope(config.rope, mla.qk_rope_head_dim, spec.max_positions);
  spec.rope.style = interleaved ? kernels::cpu::RopeStyle::interleaved : kernels::cpu::RopeStyle::half;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.attention = {};
    layer.mla = mla;
    if (i < static_cast<size_t>(first_sparse)) continue;
    layer.mlp = {};
    layer.moe = moe;
  }
  return spec;
}

Expected<ModelSpec> make_deepseek_v2_spec(const ModelConfig& config) {
  BIFOCAL_ASSIGN_OR_RETURN(MoeSpec moe, read_experts(config));
  BIFOCAL_RETURN_IF_ERROR(one_of(config, "scoring_func", {"softmax"}).status());
  BIFOCAL_ASSIGN_OR_RETURN(const std::string method,
                           one_of(config, "topk_method", {"greedy", "group_limited_greedy"}));
  if (method == "group_limited_greedy") {
    BIFOCAL_RETURN_IF_ERROR(read_groups(config, moe));
    moe.router.group_score = RouterSpec::GroupScore::largest;
  }
  moe.router.scoring = RouterSpec::Scoring::softmax;
  if (moe.router.renormalize && moe.experts_per_token > 1) {
    moe.router.scale = 1.0F;
  } else {
    moe.router.renormalize = false;
  }
  return make_deepseek_spec(config, moe);
}

Expected<ModelSpec> make_deepseek_v3_spec(const ModelConfig& config) {
  BIFOCAL_ASSIGN_OR_RETURN(MoeSpec moe, read_experts(config));
  BIFOCAL_RETURN_IF_ERROR(one_of(config, "scoring_func", {"sigmoid"}).status());
  BIFOCAL_RETURN_IF_ERROR(one_of(config, "topk_method", {"noaux_tc"}).status());
  BIFOCAL_RETURN_IF_ERROR(read_groups(config, moe));
  moe.router.scoring = RouterSpec::Scoring::sigmoid;
  moe.router.choice_bias = true;
  moe.router.group_score = RouterSpec::GroupScore::two_largest;
  return make_deepseek_spec(config, moe);
}

}  // namespace

const Family kDeepseekV2Family = {"deepseek_v2", "DeepseekV2ForCausalLM", make_deepseek_v2_spec};
const Family kDeepseekV3Family = {"deepseek_v3", "DeepseekV3ForCausalLM", make_deepseek_v3_spec};

}  // namespace bifocal::model
