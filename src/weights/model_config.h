// config.json: the fields that decoder families share, checked, and the document for what only one of them
// knows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "tensor/dtype.h"
#include "weights/generation_config.h"
#include "weights/quantised.h"
#include "weights/rope_config.h"

namespace bifocal::weights {

struct ModelConfig {
  std::string path;          // of config.json, for messages
  std::string architecture;  // architectures[0], "Qwen3ForCausalLM"
  std::string model_type;

  int vocab_size = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_layers = 0;                // num_hidden_layers
  int num_heads = 0;                 // num_attention_heads
  int num_kv_heads = 0;              // num_key_value_heads, num_heads when absent
  std::optional<int> head_dim;       // families differ in the default
  std::optional<int> max_positions;  // max_position_embeddings
  double rms_norm_eps = 1e-6;
  std::string hidden_act = "silu";
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;

  bool use_sliding_window = false;
  std::optional<int> sliding_window;
  std::optional<int> max_window_layers;
  std::vector<std::string> layer_types;  // empty or one per layer

  Quantisation quantisation;   // of the weights in the files
  std::optional<DType> dtype;  // dtype or torch_dtype
  std::vector<int32_t> eos_token_ids;
  GenerationConfig generation;

  JsonValue document;  // with the overrides merged

  // "config.json: num_attention_heads: got 0, expected ..." for families that check further.
  Status error(std::string_view message) const;
};

struct ConfigOptions {
  std::string override_args;  // JSON object text, merged into the document; "" for none
  std::span<const std::string_view> architectures{};  // what the caller can run; empty: any
};

// Every number is within bounds and heads fit kv heads afterwards. Errors: invalid_argument naming file and
// field; unsupported with the list for an architecture that is not among options.architectures.
Expected<ModelConfig> parse_model_config(std::string_view text, const std::string& path,
                                         const ConfigOptions& options);

// Reads config.json and, where present, generation_config.json.
Expected<ModelConfig> load_model_config(const std::string& directory, const ConfigOptions& options);

// Members of objects are merged recursively, everything else is replaced by the patch's value.
void merge_json(JsonValue& target, const JsonValue& patch);

}  // namespace bifocal::weights
