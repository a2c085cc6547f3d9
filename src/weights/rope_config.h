// Rotary settings of config.json in both spellings: rope_scaling + rope_theta (files up to 2025) and
// rope_parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace bifocal::weights {

enum class RopeType : uint8_t { plain, linear, llama3, yarn };  // "default", "linear", "llama3", "yarn"

std::string_view to_string(RopeType type);

// Fields as in the file; those of other types keep their defaults.
struct RopeConfig {
  RopeType type = RopeType::plain;
  double theta = 10000.0;
  double factor = 1.0;
  std::optional<int64_t> original_max_positions;  // original_max_position_embeddings
  double low_freq_factor = 1.0;                   // llama3
  double high_freq_factor = 4.0;
  std::optional<double> attention_factor;  // yarn
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 0.0;  // 0: not given
  double mscale_all_dim = 0.0;
  bool truncate = true;

  friend bool operator==(const RopeConfig&, const RopeConfig&) = default;
};

// Errors name the field: an unknown rope_type or key, a missing factor, a value out of range, both spellings
// present and different.
Expected<RopeConfig> parse_rope_config(const JsonReader& config);

}  // namespace bifocal::weights
