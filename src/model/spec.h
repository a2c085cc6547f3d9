// What a decoder is made of: the result of reading a config. A family's file makes it; weights, decoder and
// engine use it and know nothing of families.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attention/desc.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/moe.h"
#include "kv/kv_cache.h"
#include "tensor/device.h"
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
  bool sinks = false;  // a learned logit per head that takes part in the softmax and has no value

  int64_t q_rows() const { return int64_t{num_heads} * head_dim; }
  int64_t kv_rows() const { return int64_t{num_kv_heads} * head_dim; }
  int64_t qkv_rows() const { return q_rows() + 2 * kv_rows(); }
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values of all heads are
// projections of one latent per token, which is what the cache holds, together with a rotated key that all
// heads share. Queries come from a latent of their own where q_lora_rank is not 0.
struct MlaSpec {
  int num_heads = 0;         // H
  int q_lora_rank = 0;       // 0: queries are projected directly
  int kv_lora_rank = 0;      // of the latent c
  int qk_nope_head_dim = 0;  // dims of a q or k head without position
  int qk_rope_head_dim = 0;  // and with
  int v_head_dim = 0;
  float scale = 1.0F;     // of q·k, YaRN's correction included
  float norm_eps = 0.0F;  // of the latents' norms
  bool bias = false;      // of q_a, kv_a and the output projection

  int qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int latent_dim() const { return kv_lora_rank + qk_rope_head_dim; }  // what a token takes in the cache
};

// down(silu(gate(x)) * up(x))
struct MlpSpec {
  int intermediate_size = 0;  // I
  bool bias = false;
};

// How a router turns logits z [E] into the experts of a token and their weights.
struct RouterSpec {
  using Scoring = kernels::cpu::RouterScoring;
  using GroupScore = kernels::cpu::GroupScore;
  Scoring scoring = Scoring::softmax;
  bool bias = false;         // z = W x + b
  bool choice_bias = false;  // a vector [E] added to the scores for the choice alone
  int num_groups = 1;        // E experts in equal groups, of which
  int groups_per_token = 1;  // so many are kept before the experts are chosen
  GroupScore group_score = GroupScore::largest;
  bool renormalize = false;  // the chosen weights sum to 1
  float scale = 1.0F;        // of the weights, at the end
};

// How a checkpoint keeps the experts' projections.
enum class ExpertLayout : uint8_t {
  separate,  // "mlp.experts.3.gate_proj.weight" [I, hidden] and so on, per expert
  fused,     // "mlp.experts.gate_up_proj" [E, 2 I, hidden], gate's rows first; "….down_proj" [E, hidden, I]
  fused_in_out,  // GPT-OSS: [E, hidden, 2 I], gate and up in turns; [E, I, hidden]
};

enum class Activation : uint8_t {
  silu_mul,        // silu(gate) * up
  clamped_swiglu,  // GPT-OSS: (up + 1) * gate * sigmoid(1.702 gate), gate at most `limit`, up within it
};

// Mixture of experts: sum over the chosen experts of weight * FFN_e(x), plus the shared expert's FFN(x).
struct MoeSpec {
  int num_experts = 0;               // E
  int experts_per_token = 0;         // K
  int intermediate_size = 0;         // I of each expert
  int shared_intermediate_size = 0;  // of the expert that sees every token; 0: none
  RouterSpec router;
  Activation activation = Activation::silu_mul;
  float swiglu_limit = 0.0F;
  bool bias = false;  // of the experts' projections
  ExpertLayout layout = ExpertLayout::separate;
};

// An attention block, gqa or mla, and a feed-forward block, dense or moe.
struct LayerSpec {
  AttentionSpec attention;  // where mla is empty
  std::optional<MlaSpec> mla;
  MlpSpec mlp;  // where moe is empty
  std::optional<MoeSpec> moe;

  int64_t attention_out_dim() const;  // H Dv, what the output projection reads
  bool attention_out_bias() const;
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
  std::string sinks = "self_attn.sinks";
  std::string mlp_norm = "post_attention_layernorm.weight";
  std::string gate_proj = "mlp.gate_proj";
  std::string up_proj = "mlp.up_proj";
  std::string down_proj = "mlp.down_proj";
  std::string q_a_proj = "self_attn.q_a_proj";
  std::string q_a_norm = "self_attn.q_a_layernorm.weight";
  std::string q_b_proj = "self_attn.q_b_proj";
  std::string kv_a_proj = "self_attn.kv_a_proj_with_mqa";
  std::string kv_a_norm = "self_attn.kv_a_layernorm.weight";
  std::string kv_b_proj = "self_attn.kv_b_proj";
  std::string router = "mlp.gate";
  std::string choice_bias = "mlp.gate.e_score_correction_bias";
  std::string experts = "mlp.experts";
  std::string shared_expert = "mlp.shared_experts";
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
// The widest window of a layer: what their pages have to keep. 0: no layer has one.
int kv_window(const ModelSpec& spec);

// Layers grouped by attention description. Behind a class of latents stands the one that they expand to,
// which no layer has of its own.
struct AttentionClasses {
  std::vector<attention::AttentionDesc> descs;  // in order of first use
  std::vector<size_t> of_layer;                 // index into descs
};
// Queries are f32 on the CPU and bf16 on a GPU.
AttentionClasses attention_classes(const ModelSpec& spec, DType kv_dtype, int page_size,
                                   DeviceKind device = DeviceKind::cpu);

}  // namespace bifocal::model
