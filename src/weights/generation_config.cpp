#include "weights/generation_config.h"

#include <fmt/format.h>

#include <cmath>

namespace bifocal::weights {

Expected<std::vector<int32_t>> parse_token_ids(const JsonReader& reader, std::string_view key) {
  constexpr size_t kMaxIds = 256;
  std::vector<int32_t> ids;
  const JsonValue* value = reader.find(key);
  if (value != nullptr && !value->is_array()) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto id, reader.get_int(key, 0, INT32_MAX));
    if (id) ids.push_back(static_cast<int32_t>(*id));
    return ids;
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto list, reader.get_ints(key, 0, INT32_MAX, kMaxIds));
  if (!list) return ids;
  for (const int64_t id : *list) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

namespace {

Expected<GenerationConfig> parse(std::string_view text) {
  JsonLimits limits;
  limits.max_bytes = uint64_t{1} << 20;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue document, parse_json(text, limits));
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(document));
  GenerationConfig config;
  BIFOCAL_ASSIGN_OR_RETURN(config.eos_token_ids, parse_token_ids(reader, "eos_token_id"));
  BIFOCAL_ASSIGN_OR_RETURN(config.do_sample, reader.get_bool("do_sample"));
  BIFOCAL_ASSIGN_OR_RETURN(config.temperature, reader.get_number("temperature", 0.0, 100.0));
  BIFOCAL_ASSIGN_OR_RETURN(config.top_k, reader.get_int("top_k", -1, INT32_MAX));
  BIFOCAL_ASSIGN_OR_RETURN(config.top_p, reader.get_number("top_p", 0.0, 1.0));
  BIFOCAL_ASSIGN_OR_RETURN(config.min_p, reader.get_number("min_p", 0.0, 1.0));
  BIFOCAL_ASSIGN_OR_RETURN(config.repetition_penalty, reader.get_number("repetition_penalty", 1e-3, 100.0));
  BIFOCAL_ASSIGN_OR_RETURN(config.max_new_tokens, reader.get_int("max_new_tokens", 1, INT32_MAX));
  return config;
}

}  // namespace

Expected<GenerationConfig> parse_generation_config(std::string_view text, const std::string& path) {
  auto config = parse(text);
  if (!config.ok()) return config.status().with_context(path);
  return config;
}

}  // namespace bifocal::weights
