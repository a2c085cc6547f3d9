// What a decoder is made of: the result of reading a config. A family's file makes it; weights, decoder and
// engine use it and know nothing of families.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attention/desc.h"
#include "kernels/cpu/elementwise.h"
#include "kv/kv_cache.h"
#include "tensor/dtype.h"

namespace bifocal::model {

// Rotary position embedding, ready to use: angle of pair j at position p is p * inv_freq[j].
struct RopeSpec {
  kernels::cpu::RopeStyle style = kernels::cpu::RopeStyle::half;
  int rotary_dim = 0;
  std::vector<float> inv_freq;    // [rotary_dim/2]
  float attention_factor = 1.0F;  // multiplies cos and sin (YaRN)
};

// Grouped-query attention: q, k, v projections, optional norms of each q and k head before RoPE, output
// projection.
struct AttentionSpec {
  int num_heads = 0;     // H
  int num_kv_heads = 0;  // HK; query head h reads kv head h / (H/HK)
  int head_dim = 0;      // D of q, k and v
  float scale = 1.0F;    // of q·k
  int window = 0;        // keys in sight, the current one included; 0: all
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;

  int qkv_rows() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// down(silu(gate(x)) * up(x))
struct MlpSpec {
  int intermediate_size = 0;  // I
  bool bias = false;
};

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
};

// What a checkpoint calls the parts. Layer i's names stand under layer_prefix + "i."; projections have a
// weight and, where the spec says so, a bias: "model.layers.0.self_attn.q_proj" + ".weight".
struct WeightNames {
  std::string embedding = "model.embed_tokens.weight";
  std::string final_norm = "model.norm.weight";
  std::string output = "lm_head.weight";
  std::string layer_prefix = "model.layers.";
  std::string attention_norm = "input_layernorm.weight";
  std::string q_proj = "self_attn.q_proj";
  std::string k_proj = "self_attn.k_proj";
  std::string v_proj = "self_attn.v_proj";
  std::string o_proj = "self_attn.o_proj";
  std::string q_norm = "self_attn.q_norm.weight";
  std::string k_norm = "self_attn.k_norm.weight";
  std::string mlp_norm = "post_attention_layernorm.weight";
  std::string gate_proj = "mlp.gate_proj";
  std::string up_proj = "mlp.up_proj";
  std::string down_proj = "mlp.down_proj";
};

struct ModelSpec {
  std::string family;        // "qwen3"
  std::string architecture;  // "Qwen3ForCausalLM"
  int vocab_size = 0;        // V, the width of logits
  int hidden_size = 0;
  int max_positions = 0;  // positions that the config promises
  float norm_eps = 0.0F;
  bool tied_output = false;  // the output matrix is the embedding
  RopeSpec rope;
  std::vector<LayerSpec> layers;
  WeightNames names;
  std::vector<int32_t> eos_token_ids;  // config.json's and generation_config.json's, sorted
};

// The shape of each layer's keys and values, for KvCache::allocate.
std::vector<kv::LayerShape> kv_layer_shapes(const ModelSpec& spec);

// Layers grouped by attention description.
struct AttentionClasses {
  std::vector<attention::AttentionDesc> descs;  // in order of first use
  std::vector<size_t> of_layer;                 // index into descs
};
AttentionClasses attention_classes(const ModelSpec& spec, DType kv_dtype, int page_size);

}  // namespace bifocal::model
