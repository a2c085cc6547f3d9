// Qwen 3, mixture of experts: attention as in the dense models; softmax over all experts, then the best K.
#include <fmt/format.h>

#include "model/dense_family.h"
#include "model/families.h"
#include "model/moe_config.h"

namespace bifocal::model {
namespace {

Expected<ModelSpec> make_qwen3_moe_spec(const weights::ModelConfig& config) {
  DenseTraits traits;
  traits.default_max_positions = 32768;
  traits.qkv_bias = config.attention_bias;
  traits.output_bias = config.attention_bias;
  traits.qk_norm = true;
  traits.sliding = Sliding::all_layers;
  traits.own_settings = {"num_experts", "num_local_experts"};
  BIFOCAL_ASSIGN_OR_RETURN(ModelSpec spec, make_dense_spec(config, traits));

  const MoeConfig fields(config);
  MoeSpec moe;
  BIFOCAL_ASSIGN_OR_RETURN(moe.num_experts, fields.num_experts());
  BIFOCAL_ASSIGN_OR_RETURN(moe.experts_per_token, fields.experts_per_token(moe.num_experts));
  BIFOCAL_ASSIGN_OR_RETURN(moe.intermediate_size, fields.width("moe_intermediate_size"));
  // Absent means false, although every released file says true.
  BIFOCAL_ASSIGN_OR_RETURN(moe.router.renormalize, fields.flag("norm_topk_prob", false));
  BIFOCAL_ASSIGN_OR_RETURN(const std::vector<bool> sparse, fields.sparse_layers());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!sparse[i]) continue;
    spec.layers[i].mlp = {};
    spec.layers[i].moe = moe;
  }
  return spec;
}

}  // namespace

const Family kQwen3MoeFamily = {"qwen3_moe", "Qwen3MoeForCausalLM", make_qwen3_moe_spec};

}  // namespace bifocal::model
