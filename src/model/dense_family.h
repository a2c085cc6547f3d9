// What families with grouped-query attention share: pre-norm layers, a gated MLP, RMSNorm, rotary positions.
// A family states where it differs.
#pragma once

#include <string_view>
#include <vector>

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
  bool sliding_layers = false;      // use_sliding_window, max_window_layers and layer_types mean something
  bool every_layer_slides = false;  // use_sliding_window concerns all layers
  std::vector<std::string_view> own_settings;  // that the family reads itself
};

Expected<ModelSpec> make_dense_spec(const weights::ModelConfig& config, const DenseTraits& traits);

}  // namespace bifocal::model
