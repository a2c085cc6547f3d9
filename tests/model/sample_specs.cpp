#include "model/sample_specs.h"

#include <cmath>

#include "model/rope.h"

namespace bifocal::model {
namespace {

ModelSpec base(std::string family, int vocab, int hidden, int num_layers, const LayerSpec& layer) {
  ModelSpec spec;
  spec.family = std::move(family);
  spec.architecture = "Sample";
  spec.vocab_size = vocab;
  spec.hidden_size = hidden;
  spec.max_positions = 512;
  spec.norm_eps = 1e-5F;
  spec.layers.assign(static_cast<size_t>(num_layers), layer);
  for (LayerSpec& each : spec.layers) {
    if (each.mla) continue;
    each.attention.scale = 1.0F / std::sqrt(static_cast<float>(each.attention.head_dim));
  }
  return spec;
}

}  // namespace

ModelSpec sliding_qk_norm_spec() {
  LayerSpec layer;
  layer.attention.num_heads = 6;
  layer.attention.num_kv_heads = 2;
  layer.attention.head_dim = 16;
  layer.attention.qk_norm = true;
  layer.mlp.intermediate_size = 72;
  ModelSpec spec = base("qwen3", 97, 48, 4, layer);
  spec.layers[0].attention.window = 5;
  spec.layers[2].attention.window = 5;
  weights::RopeConfig rope;
  rope.type = weights::RopeType::yarn;
  rope.factor = 4;
  rope.original_max_positions = 32;
  spec.rope = make_rope(rope, 16, spec.max_positions);
  return spec;
}

ModelSpec all_biases_spec() {
  LayerSpec layer;
  layer.attention.num_heads = 3;
  layer.attention.num_kv_heads = 3;
  layer.attention.head_dim = 24;
  layer.attention.qkv_bias = true;
  layer.attention.output_bias = true;
  layer.mlp.intermediate_size = 37;
  layer.mlp.bias = true;
  ModelSpec spec = base("llama", 101, 50, 2, layer);
  spec.tied_output = true;
  spec.rope = make_rope({}, 24, spec.max_positions);
  return spec;
}

ModelSpec interleaved_spec() {
  LayerSpec layer;
  layer.attention.num_heads = 4;
  layer.attention.num_kv_heads = 1;
  layer.attention.head_dim = 32;
  layer.attention.qkv_bias = true;
  layer.mlp.intermediate_size = 64;
  ModelSpec spec = base("qwen2", 64, 32, 3, layer);
  spec.rope = make_rope({}, 32, spec.max_positions);
  spec.rope.style = kernels::cpu::RopeStyle::interleaved;
  return spec;
}

ModelSpec softmax_moe_spec() {
  LayerSpec layer;
  layer.attention.num_heads = 4;
  layer.attention.num_kv_heads = 2;
  layer.attention.head_dim = 16;
  layer.attention.qk_norm = true;
  layer.mlp.intermediate_size = 56;
  ModelSpec spec = base("qwen3_moe", 83, 40, 3, layer);
  spec.rope = make_rope({}, 16, spec.max_positions);
  MoeSpec moe;
  moe.num_experts = 7;
  moe.experts_per_token = 3;
  moe.intermediate_size = 24;
  for (const size_t i : {size_t{0}, size_t{2}}) {
    spec.layers[i].mlp = {};
    spec.layers[i].moe = moe;
  }
  return spec;
}

ModelSpec grouped_moe_spec() {
  ModelSpec spec = softmax_moe_spec();
  spec.family = "deepseek_moe";
  MoeSpec moe;
  moe.num_experts = 12;
  moe.experts_per_token = 4;
  moe.intermediate_size = 20;
  moe.shared_intermediate_size = 33;
  moe.layout = ExpertLayout::fused;
  moe.router.scoring = RouterSpec::Scoring::sigmoid;
  moe.router.choice_bias = true;
  moe.router.num_groups = 4;
  moe.router.groups_per_token = 2;
  moe.router.group_score = RouterSpec::GroupScore::two_largest;
  moe.router.renormalize = true;
  moe.router.scale = 2.5F;
  for (LayerSpec& layer : spec.layers) {
    layer.mlp = {};
    layer.moe = moe;
  }
  return spec;
}

ModelSpec clamped_moe_spec() {
  ModelSpec spec = softmax_moe_spec();
  spec.family = "gpt_oss";
  MoeSpec moe;
  moe.num_experts = 6;
  moe.experts_per_token = 2;
  moe.intermediate_size = 28;
  moe.layout = ExpertLayout::fused_in_out;
  moe.router.bias = true;
  moe.router.renormalize = true;
  moe.activation = Activation::clamped_swiglu;
  moe.swiglu_limit = 0.75F;
  moe.bias = true;
  for (size_t i = 0; i < spec.layers.size(); i += 2) spec.layers[i].attention.window = 7;
  for (LayerSpec& layer : spec.layers) {
    layer.attention.sinks = true;
    layer.attention.qk_norm = false;
    layer.attention.qkv_bias = true;
    layer.attention.output_bias = true;
    layer.mlp = {};
    layer.moe = moe;
  }
  return spec;
}

ModelSpec latent_spec() {
  MlaSpec mla;
  mla.num_heads = 3;
  mla.q_lora_rank = 20;
  mla.kv_lora_rank = 24;
  mla.qk_nope_head_dim = 8;
  mla.qk_rope_head_dim = 16;
  mla.v_head_dim = 32;
  mla.scale = 1.6F / std::sqrt(24.0F);  // as if by YaRN
  mla.norm_eps = 0.02F;
  mla.bias = true;
  LayerSpec layer;
  layer.mla = mla;
  layer.mlp.intermediate_size = 48;
  ModelSpec spec = base("latents", 89, 40, 3, layer);
  spec.rope = make_rope({}, 16, spec.max_positions);
  spec.rope.style = kernels::cpu::RopeStyle::interleaved;
  return spec;
}

ModelSpec direct_latent_spec() {
  ModelSpec spec = latent_spec();
  spec.family = "latents_direct";
  for (LayerSpec& layer : spec.layers) {
    layer.mla->q_lora_rank = 0;
    layer.mla->bias = false;
  }
  return spec;
}

std::vector<ModelSpec> sample_specs() {
  return {sliding_qk_norm_spec(), all_biases_spec(),  interleaved_spec(), softmax_moe_spec(),
          grouped_moe_spec(),     clamped_moe_spec(), latent_spec(),      direct_latent_spec()};
}

}  // namespace bifocal::model
