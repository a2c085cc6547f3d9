#include "weights/model_config.h"

#include <fmt/format.h>

#include "base/file.h"

namespace bifocal::weights {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

// Wide enough for any model known, narrow enough that products of three stay far from 64 bits.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

Expected<JsonValue> parse_object(std::string_view text) {
  JsonLimits limits;
  limits.max_bytes = kMaxConfigBytes;
  limits.max_values = 100'000;
  limits.max_depth = 32;
  BIFOCAL_ASSIGN_OR_RETURN(JsonValue value, parse_json(text, limits));
  if (!value.is_object()) return type_error("document", "object", value);
  return value;
}

Status read_optional(const JsonReader& reader, std::string_view key, int64_t max, std::optional<int>& out) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, reader.get_int(key, 1, max));
  if (value) out = static_cast<int>(*value);
  return {};
}

Status read_required(const JsonReader& reader, std::string_view key, int64_t max, int& out) {
  std::optional<int> value;
  BIFOCAL_RETURN_IF_ERROR(read_optional(reader, key, max, value));
  if (!value) return invalid_argument(fmt::format("{}: missing", reader.path_of(key)));
  out = *value;
  return {};
}

Status read_flag(const JsonReader& reader, std::string_view key, bool& out) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, reader.get_bool(key));
  if (value) out = *value;
  return {};
}

Expected<std::string> read_architecture(const JsonReader& reader,
                                        std::span<const std::string_view> supported) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto names, reader.get_strings("architectures", 16, 256));
  if (names.empty()) return invalid_argument("architectures: missing or empty");
  if (supported.empty()) return names.front();
  std::string list;
  for (const std::string_view name : supported) {
    if (name == names.front()) return names.front();
    list += list.empty() ? "" : ", ";
    list += name;
  }
  std::string shown;
  append_json_string(shown, names.front());
  return unsupported(fmt::format("architectures: {} is not supported; expected one of {}", shown, list));
}

// "bfloat16" under "dtype" (2025 and later) or "torch_dtype"; "auto" says nothing.
Expected<std::optional<DType>> read_dtype(const JsonReader& reader) {
  std::optional<DType> dtype;
  for (const std::string_view key : {"dtype", "torch_dtype"}) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto name, reader.get_string(key, 64));
    if (!name || *name == "auto") continue;
    const auto parsed = parse_dtype(name->starts_with("torch.") ? name->substr(6) : *name);
    if (!parsed.ok()) return parsed.status().with_context(reader.path_of(key));
    if (dtype && *dtype != *parsed) {
      return invalid_argument(
          fmt::format("dtype is {}, but torch_dtype is {}", to_string(*dtype), to_string(*parsed)));
    }
    dtype = *parsed;
  }
  return dtype;
}

Status read_dimensions(const JsonReader& reader, ModelConfig& config) {
  BIFOCAL_RETURN_IF_ERROR(read_required(reader, "vocab_size", kMaxVocab, config.vocab_size));
  BIFOCAL_RETURN_IF_ERROR(read_required(reader, "hidden_size", kMaxWidth, config.hidden_size));
  BIFOCAL_RETURN_IF_ERROR(read_required(reader, "intermediate_size", kMaxWidth, config.intermediate_size));
  BIFOCAL_RETURN_IF_ERROR(read_required(reader, "num_hidden_layers", kMaxLayers, config.num_layers));
  BIFOCAL_RETURN_IF_ERROR(read_required(reader, "num_attention_heads", kMaxHeads, config.num_heads));
  std::optional<int> kv_heads;
  BIFOCAL_RETURN_IF_ERROR(read_optional(reader, "num_key_value_heads", kMaxHeads, kv_heads));
  config.num_kv_heads = kv_heads.value_or(config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    return invalid_argument(
        fmt::format("num_attention_heads: got {}, expected a multiple of num_key_value_heads {}",
                    config.num_heads, config.num_kv_heads));
  }
  BIFOCAL_RETURN_IF_ERROR(read_optional(reader, "head_dim", kMaxHeadDim, config.head_dim));
  return read_optional(reader, "max_position_embeddings", kMaxPositions, config.max_positions);
}

Status read_attention(const JsonReader& reader, ModelConfig& config) {
  BIFOCAL_RETURN_IF_ERROR(read_flag(reader, "attention_bias", config.attention_bias));
  BIFOCAL_RETURN_IF_ERROR(read_flag(reader, "use_sliding_window", config.use_sliding_window));
  BIFOCAL_RETURN_IF_ERROR(read_optional(reader, "sliding_window", kMaxPositions, config.sliding_window));
  BIFOCAL_ASSIGN_OR_RETURN(const auto full_layers, reader.get_int("max_window_layers", 0, INT32_MAX));
  if (full_layers) config.max_window_layers = static_cast<int>(*full_layers);
  BIFOCAL_ASSIGN_OR_RETURN(config.layer_types, reader.get_strings("layer_types", kMaxLayers, 64));
  if (!config.layer_types.empty() && config.layer_types.size() != static_cast<size_t>(config.num_layers)) {
    return invalid_argument(fmt::format("layer_types: {} entries, expected {} from num_hidden_layers",
                                        config.layer_types.size(), config.num_layers));
  }
  return {};
}

Expected<ModelConfig> parse(std::string_view text, const ConfigOptions& options) {
  ModelConfig config;
  BIFOCAL_ASSIGN_OR_RETURN(config.document, parse_object(text));
  if (!options.override_args.empty()) {
    const auto patch = parse_object(options.override_args);
    if (!patch.ok()) return patch.status().with_context("--json-model-override-args");
    merge_json(config.document, *patch);
  }
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(config.document));
  BIFOCAL_ASSIGN_OR_RETURN(config.architecture, read_architecture(reader, options.architectures));
  BIFOCAL_ASSIGN_OR_RETURN(const auto model_type, reader.get_string("model_type", 256));
  config.model_type = model_type.value_or("");
  BIFOCAL_RETURN_IF_ERROR(read_dimensions(reader, config));
  BIFOCAL_RETURN_IF_ERROR(read_attention(reader, config));
  BIFOCAL_ASSIGN_OR_RETURN(const auto eps, reader.get_number("rms_norm_eps", 1e-12, 1.0));
  config.rms_norm_eps = eps.value_or(config.rms_norm_eps);
  BIFOCAL_ASSIGN_OR_RETURN(const auto act, reader.get_string("hidden_act", 64));
  config.hidden_act = act.value_or(config.hidden_act);
  BIFOCAL_RETURN_IF_ERROR(read_flag(reader, "tie_word_embeddings", config.tie_word_embeddings));
  BIFOCAL_RETURN_IF_ERROR(read_flag(reader, "mlp_bias", config.mlp_bias));
  BIFOCAL_ASSIGN_OR_RETURN(config.rope, parse_rope_config(reader));
  BIFOCAL_ASSIGN_OR_RETURN(config.quantisation, parse_quantisation(reader));
  BIFOCAL_ASSIGN_OR_RETURN(config.dtype, read_dtype(reader));
  BIFOCAL_ASSIGN_OR_RETURN(config.eos_token_ids, parse_token_ids(reader, "eos_token_id"));
  return config;
}

}  // namespace

Status ModelConfig::error(std::string_view message) const {
  return invalid_argument(fmt::format("{}: {}", path, message));
}

void merge_json(JsonValue& target, const JsonValue& patch) {
  if (!target.is_object() || !patch.is_object()) {
    target = patch;
    return;
  }
  JsonValue::Object& members = target.as_object();
  for (const auto& [key, value] : patch.as_object()) {
    auto at = members.begin();
    while (at != members.end() && at->first != key) ++at;
    if (at == members.end()) {
      members.emplace_back(key, value);
    } else {
      merge_json(at->second, value);
    }
  }
}

Expected<ModelConfig> parse_model_config(std::string_view text, const std::string& path,
                                         const ConfigOptions& options) {
  auto config = parse(text, options);
  if (!config.ok()) return config.status().with_context(path);
  config->path = path;
  return config;
}

Expected<ModelConfig> load_model_config(const std::string& directory, const ConfigOptions& options) {
  const std::string path = directory + "/config.json";
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxConfigBytes));
  BIFOCAL_ASSIGN_OR_RETURN(ModelConfig config, parse_model_config(text, path, options));
  const std::string generation_path = directory + "/generation_config.json";
  if (file_exists(generation_path)) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string generation, read_file(generation_path, kMaxConfigBytes));
    BIFOCAL_ASSIGN_OR_RETURN(config.generation, parse_generation_config(generation, generation_path));
  }
  return config;
}

}  // namespace bifocal::weights
