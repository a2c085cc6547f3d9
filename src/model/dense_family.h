// What the dense decoder families share: pre-norm layers of grouped-query attention and a gated MLP, RMSNorm,
// rotary positions. A family states where it differs.
#pragma once

#include "base/status.h"
#include "model/spec.h"
#include "weights/model_config.h"

namespace bifocal::model {

struct DenseTraits {
  int default_head_dim = 0;  // where config.json has none; 0: hidden_size / num_attention_heads
  int default_max_positions = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  bool sliding_layers = false;  // use_sliding_window, max_window_layers and layer_types mean something
};

Expected<ModelSpec> make_dense_spec(const weights::ModelConfig& config, const DenseTraits& traits);

}  // namespace bifocal::model
