// What families with grouped-query attention share: pre-norm layers, a gated MLP, RMSNorm, rotary positions.
// A family states where it differs.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/spec.h"
#include "weights/model_config.h"

namespace bifocal::model {

// Which layers see a window of keys only.
enum class Sliding : uint8_t {
  none,
  late_layers,  // if use_sliding_window, those from max_window_layers on, or as layer_types says
  all_layers,   // if use_sliding_window
  in_turns,     // layers 0, 2, ... or as layer_types says; sliding_window is a must
};

struct DenseTraits {
  int default_head_dim = 0;  // where config.json has none; 0: hidden_size / num_attention_heads
  int default_max_positions = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  Sliding sliding = Sliding::none;
  std::vector<std::string_view> own_settings;  // that the family reads itself
};

Expected<ModelSpec> make_dense_spec(const weights::ModelConfig& config, const DenseTraits& traits);

}  // namespace bifocal::model
