// Llama 2 and 3: optional biases on every projection of the attention and of the MLP. pretraining_tp only
// matters in training; rotary_emb.inv_freq tensors of old files are ignored at load.
#include "model/dense_family.h"
#include "model/families.h"

namespace bifocal::model {
namespace {

Expected<ModelSpec> make_llama_spec(const weights::ModelConfig& config) {
  DenseTraits traits;
  traits.default_max_positions = 2048;
  traits.qkv_bias = config.attention_bias;
  traits.output_bias = config.attention_bias;
  traits.mlp_bias = config.mlp_bias;
  return make_dense_spec(config, traits);
}

}  // namespace

const Family kLlamaFamily = {"llama", "LlamaForCausalLM", make_llama_spec};

}  // namespace bifocal::model
