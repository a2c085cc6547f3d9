// Qwen 3, dense: RMSNorm over each q and k head before RoPE; head_dim is independent of hidden_size.
#include "model/dense_family.h"
#include "model/families.h"

namespace bifocal::model {
namespace {

Expected<ModelSpec> make_qwen3_spec(const weights::ModelConfig& config) {
  DenseTraits traits;
  traits.default_head_dim = 128;
  traits.default_max_positions = 32768;
  traits.qkv_bias = config.attention_bias;
  traits.output_bias = config.attention_bias;
  traits.qk_norm = true;
  traits.sliding = Sliding::late_layers;
  return make_dense_spec(config, traits);
}

}  // namespace

const Family kQwen3Family = {"qwen3", "Qwen3ForCausalLM", make_qwen3_spec};

}  // namespace bifocal::model
