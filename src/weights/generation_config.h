// generation_config.json: the sampling defaults that a model's authors recommend, and its end tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace bifocal::weights {

struct GenerationConfig {
  std::vector<int32_t> eos_token_ids;
  std::optional<bool> do_sample;  // false: greedy
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<int64_t> max_new_tokens;
};

Expected<GenerationConfig> parse_generation_config(std::string_view text, const std::string& path);

// eos_token_id as both files spell it: absent, one id, or a list.
Expected<std::vector<int32_t>> parse_token_ids(const JsonReader& reader, std::string_view key);

}  // namespace bifocal::weights
