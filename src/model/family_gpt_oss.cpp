// GPT-OSS (arXiv 2508.10925): biases everywhere, a sink per head, windows in every other layer, experts with
// a clamped activation.
#include "model/dense_family.h"
#include "model/families.h"
#include "model/moe_config.h"

namespace bifocal::model {
namespace {

// What a file without rotary settings means.
weights::RopeConfig default_rope() {
  weights::RopeConfig rope;
  rope.type = weights::RopeType::yarn;
  rope.theta = 150000.0;
  rope.factor = 32.0;
  rope.original_max_positions = 4096;
  rope.truncate = false;
  return rope;
}

bool has_rope(const weights::ModelConfig& config) {
  for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta"}) {
    const JsonValue* value = config.document.find(key);
    if (value != nullptr && !value->is_null()) return true;
  }
  return false;
}

Expected<ModelSpec> make_gpt_oss_spec(const weights::ModelConfig& config) {
  const MoeConfig fields(config);
  BIFOCAL_ASSIGN_OR_RETURN(const bool bias, fields.flag("attention_bias", true));
  DenseTraits traits;
  traits.default_head_dim = 64;
  traits.default_max_positions = 131072;
  traits.qkv_bias = bias;
  traits.output_bias = bias;
  traits.sliding = Sliding::in_turns;
  traits.own_settings = {"num_experts", "num_local_experts"};
  weights::ModelConfig completed = config;
  if (!has_rope(config)) completed.rope = default_rope();
  BIFOCAL_ASSIGN_OR_RETURN(ModelSpec spec, make_dense_spec(completed, traits));

  MoeSpec moe;
  BIFOCAL_ASSIGN_OR_RETURN(moe.num_experts, fields.num_experts());
  BIFOCAL_ASSIGN_OR_RETURN(moe.experts_per_token, fields.experts_per_token(moe.num_experts));
  moe.intermediate_size = config.intermediate_size;
  BIFOCAL_ASSIGN_OR_RETURN(const double limit, fields.number("swiglu_limit", 1e-3, 1e6, 7.0));
  moe.swiglu_limit = static_cast<float>(limit);
  moe.activation = Activation::clamped_swiglu;
  moe.bias = true;
  moe.layout = ExpertLayout::fused_in_out;
  moe.router.bias = true;
  moe.router.renormalize = true;  // a softmax over the chosen logits alone is the same
  for (LayerSpec& layer : spec.layers) {
    layer.attention.sinks = true;
    layer.mlp = {};
    layer.moe = moe;
  }
  spec.names.router = "mlp.router";
  return spec;
}

}  // namespace

const Family kGptOssFamily = {"gpt_oss", "GptOssForCausalLM", make_gpt_oss_spec};

}  // namespace bifocal::model
