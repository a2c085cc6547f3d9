// Qwen 2 and 2.5: q, k and v always have a bias, the other projections never; optional sliding layers.
#include "model/dense_family.h"
#include "model/families.h"

namespace bifocal::model {
namespace {

Expected<ModelSpec> make_qwen2_spec(const weights::ModelConfig& config) {
  DenseTraits traits;
  traits.default_max_positions = 32768;
  traits.qkv_bias = true;
  traits.sliding = Sliding::late_layers;
  return make_dense_spec(config, traits);
}

}  // namespace

const Family kQwen2Family = {"qwen2", "Qwen2ForCausalLM", make_qwen2_spec};

}  // namespace bifocal::model
