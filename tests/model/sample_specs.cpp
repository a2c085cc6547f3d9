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

std::vector<ModelSpec> sample_specs() {
  return {sliding_qk_norm_spec(), all_biases_spec(), interleaved_spec()};
}

}  // namespace bifocal::model
