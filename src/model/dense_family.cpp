#include "model/dense_family.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/rope.h"

namespace bifocal::model {
namespace {

using weights::ModelConfig;

// Settings of related architectures that change what a layer computes, and the value that changes nothing
// (null always does). No family knows them but the one that owns them: ignoring one would give fluent
// nonsense.
struct ForeignSetting {
  std::string_view key;
  JsonValue neutral;
};

Status refuse_foreign_settings(const ModelConfig& config, const DenseTraits& traits) {
  static const ForeignSetting kForeign[] = {
      {"num_experts", 0},
      {"num_local_experts", 0},
      {"n_routed_experts", 0},
      {"kv_lora_rank", {}},
      {"attn_logit_softcapping", {}},
      {"final_logit_softcapping", {}},
      {"query_pre_attn_scalar", {}},
      {"attention_multiplier", 1},
      {"residual_multiplier", 1},
      {"embedding_multiplier", 1},
      {"logits_scaling", 1},
      {"logit_scale", 1},
      {"clip_qkv", {}},
      {"partial_rotary_factor", 1},
      {"rotary_pct", 1},
      {"alibi", false},
      {"parallel_attn", false},
      {"use_parallel_residual", false},
      {"attention_chunk_size", {}},
      {"no_rope_layers", {}},
      {"rope_interleaved", false},
      {"rope_interleave", false},
  };
  for (const ForeignSetting& setting : kForeign) {
    const JsonValue* value = config.document.find(setting.key);
    if (value == nullptr || value->is_null() || *value == setting.neutral) continue;
    const auto& own = traits.own_settings;
    if (std::find(own.begin(), own.end(), setting.key) != own.end()) continue;
    if (value->is_number() && setting.neutral.is_number() &&
        value->as_double() == setting.neutral.as_double())
      continue;
    return unsupported(fmt::format("{}: {}: {} does not support this setting", config.path, setting.key,
                                   config.architecture));
  }
  if (config.hidden_act != "silu" && config.hidden_act != "swish") {
    std::string shown;
    append_json_string(shown, config.hidden_act);
    return unsupported(fmt::format("{}: hidden_act: got {}, expected \"silu\"", config.path, shown));
  }
  return {};
}

Expected<int> head_dim(const ModelConfig& config, const DenseTraits& traits) {
  int dim = config.head_dim.value_or(traits.default_head_dim);
  if (dim == 0) {
    if (config.hidden_size % config.num_heads != 0) {
      return config.error(
          fmt::format("hidden_size: got {}, expected a multiple of num_attention_heads {} where "
                      "head_dim is absent",
                      config.hidden_size, config.num_heads));
    }
    dim = config.hidden_size / config.num_heads;
  }
  if (dim % 2 != 0) return config.error(fmt::format("head_dim: got {}, expected an even number", dim));
  return dim;
}

// The first layer with a window where layer_types is absent, and the step to the next one.
struct Slide {
  size_t first = 0;
  size_t step = 1;
};
Expected<Slide> default_slide(const ModelConfig& config, const DenseTraits& traits) {
  if (traits.sliding == Sliding::all_layers) return Slide{};
  if (traits.sliding == Sliding::in_turns) return Slide{0, 2};
  if (!config.max_window_layers)
    return config.error("max_window_layers: missing, use_sliding_window needs it");
  return Slide{static_cast<size_t>(*config.max_window_layers), 1};
}

// The window of each layer; 0 is none. layer_types has the last word. A sliding_window that
// use_sliding_window does not switch on is only a leftover.
Expected<std::vector<int>> layer_windows(const ModelConfig& config, const DenseTraits& traits) {
  std::vector<int> windows(static_cast<size_t>(config.num_layers), 0);
  const bool switched_on = traits.sliding == Sliding::in_turns || config.use_sliding_window;
  if (traits.sliding == Sliding::in_turns && !config.sliding_window) {
    return config.error("sliding_window: missing");
  }
  const bool sliding = traits.sliding != Sliding::none && switched_on && config.sliding_window;
  for (size_t i = 0; i < config.layer_types.size(); ++i) {
    const std::string& type = config.layer_types[i];
    if (type == "sliding_attention") {
      if (!sliding) {
        return config.error(fmt::format("layer_types[{}]: sliding_attention, but {}", i,
                                        traits.sliding != Sliding::none
                                            ? "use_sliding_window is false or sliding_window is absent"
                                            : config.architecture + " has no sliding layers"));
      }
      windows[i] = *config.sliding_window;
    } else if (type != "full_attention") {
      std::string shown;
      append_json_string(shown, type);
      return unsupported(
          fmt::format("{}: layer_types[{}]: got {}, expected full_attention or sliding_attention",
                      config.path, i, shown));
    }
  }
  if (sliding && config.layer_types.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(const Slide slide, default_slide(config, traits));
    for (size_t i = slide.first; i < windows.size(); i += slide.step) windows[i] = *config.sliding_window;
  }
  return windows;
}

std::vector<int32_t> eos_token_ids(const ModelConfig& config) {
  std::vector<int32_t> ids = config.eos_token_ids;
  ids.insert(ids.end(), config.generation.eos_token_ids.begin(), config.generation.eos_token_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

Expected<ModelSpec> make_dense_spec(const ModelConfig& config, const DenseTraits& traits) {
  BIFOCAL_RETURN_IF_ERROR(refuse_foreign_settings(config, traits));
  ModelSpec spec;
  spec.vocab_size = config.vocab_size;
  spec.hidden_size = config.hidden_size;
  spec.max_positions = config.max_positions.value_or(traits.default_max_positions);
  spec.norm_eps = static_cast<float>(config.rms_norm_eps);
  spec.tied_output = config.tie_word_embeddings;
  spec.eos_token_ids = eos_token_ids(config);

  LayerSpec layer;
  BIFOCAL_ASSIGN_OR_RETURN(layer.attention.head_dim, head_dim(config, traits));
  layer.attention.num_heads = config.num_heads;
  layer.attention.num_kv_heads = config.num_kv_heads;
  layer.attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(layer.attention.head_dim)));
  layer.attention.qkv_bias = traits.qkv_bias;
  layer.attention.output_bias = traits.output_bias;
  layer.attention.qk_norm = traits.qk_norm;
  layer.mlp.intermediate_size = config.intermediate_size;
  layer.mlp.bias = traits.mlp_bias;
  BIFOCAL_ASSIGN_OR_RETURN(const std::vector<int> windows, layer_windows(config, traits));
  for (const int window : windows) {
    layer.attention.window = window;
    spec.layers.push_back(layer);
  }
  spec.rope = make_rope(config.rope, layer.attention.head_dim, spec.max_positions);
  return spec;
}

}  // namespace bifocal::model
