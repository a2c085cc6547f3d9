#include "weights/rope_config.h"

#include <fmt/format.h>

#include <string>

namespace bifocal::weights {
namespace {

constexpr double kMinTheta = 2.0;
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

struct TypeName {
  std::string_view name;
  RopeType type;
};
constexpr TypeName kTypes[] = {
    {"default", RopeType::plain},
    {"linear", RopeType::linear},
    {"llama3", RopeType::llama3},
    {"yarn", RopeType::yarn},
};

// A key that is not here changes the rotation in a way we don't know.
constexpr std::string_view kKnownKeys[] = {
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "finetuned",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "partial_rotary_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
};

Status check_keys(const JsonReader& settings) {
  for (const auto& [key, value] : settings.members()) {
    bool known = value.is_null();
    for (const std::string_view name : kKnownKeys) known = known || name == key;
    if (!known) {
      constexpr size_t kMaxShown = 64;
      return unsupported(fmt::format("{}: unknown rope setting", settings.path_of(key.substr(0, kMaxShown))));
    }
  }
  return {};
}

Expected<RopeType> parse_type(const JsonReader& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto rope_type, settings.get_string("rope_type"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto alias, settings.get_string("type"));
  if (rope_type && alias && *rope_type != *alias) {
    return invalid_argument(
        fmt::format("{} and {} differ", settings.path_of("rope_type"), settings.path_of("type")));
  }
  const std::string name = rope_type ? *rope_type : alias.value_or("default");
  std::string known;
  for (const TypeName& entry : kTypes) {
    if (entry.name == name) return entry.type;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  constexpr size_t kMaxShown = 64;
  return unsupported(fmt::format("{}: \"{}\" is not supported; expected one of {}",
                                 settings.path_of(rope_type ? "rope_type" : "type"),
                                 name.substr(0, kMaxShown), known));
}

Status missing(const JsonReader& settings, std::string_view key, RopeType type) {
  return invalid_argument(
      fmt::format("{}: missing, rope_type {} needs it", settings.path_of(key), to_string(type)));
}

// Reads a number into `out` if it is given; `zero_is_absent` as transformers treats the betas and mscales.
Status read_number(const JsonReader& settings, std::string_view key, double min, double max, double& out,
                   bool zero_is_absent = false) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, settings.get_number(key, zero_is_absent ? 0.0 : min, max));
  if (!value || (zero_is_absent && *value == 0.0)) return {};
  out = *value;
  return {};
}

// theta stands beside rope_scaling or inside rope_parameters.
Expected<RopeConfig> parse_settings(const JsonReader& settings, double theta) {
  BIFOCAL_RETURN_IF_ERROR(check_keys(settings));
  RopeConfig rope;
  rope.theta = theta;
  BIFOCAL_ASSIGN_OR_RETURN(rope.type, parse_type(settings));
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "rope_theta", kMinTheta, kMaxTheta, rope.theta));
  double partial = 1.0;
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "partial_rotary_factor", 0.0, 1.0, partial));
  if (partial != 1.0) {
    return unsupported(
        fmt::format("{}: got {}, only 1 is supported", settings.path_of("partial_rotary_factor"), partial));
  }
  if (rope.type == RopeType::plain) return rope;

  if (!settings.has("factor")) return missing(settings, "factor", rope.type);
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "factor", 1.0, kMaxFactor, rope.factor));
  if (rope.type == RopeType::linear) return rope;

  BIFOCAL_ASSIGN_OR_RETURN(rope.original_max_positions,
                           settings.get_int("original_max_position_embeddings", 1, kMaxPositions));
  if (rope.type == RopeType::llama3) {
    for (const std::string_view key :
         {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!settings.has(key)) return missing(settings, key, rope.type);
    }
    BIFOCAL_RETURN_IF_ERROR(read_number(settings, "low_freq_factor", 1e-6, kMaxFactor, rope.low_freq_factor));
    BIFOCAL_RETURN_IF_ERROR(
        read_number(settings, "high_freq_factor", 1e-6, kMaxFactor, rope.high_freq_factor));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      return invalid_argument(fmt::format("{}: got {}, expected more than low_freq_factor {}",
                                          settings.path_of("high_freq_factor"), rope.high_freq_factor,
                                          rope.low_freq_factor));
    }
    return rope;
  }

  BIFOCAL_ASSIGN_OR_RETURN(rope.attention_factor, settings.get_number("attention_factor", 1e-6, kMaxFactor));
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "beta_fast", 0.0, kMaxFactor, rope.beta_fast, true));
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "beta_slow", 0.0, kMaxFactor, rope.beta_slow, true));
  if (rope.beta_fast < rope.beta_slow) {
    return invalid_argument(fmt::format("{}: got {}, expected at least beta_slow {}",
                                        settings.path_of("beta_fast"), rope.beta_fast, rope.beta_slow));
  }
  BIFOCAL_RETURN_IF_ERROR(read_number(settings, "mscale", 0.0, kMaxFactor, rope.mscale, true));
  BIFOCAL_RETURN_IF_ERROR(
      read_number(settings, "mscale_all_dim", 0.0, kMaxFactor, rope.mscale_all_dim, true));
  BIFOCAL_ASSIGN_OR_RETURN(const auto truncate, settings.get_bool("truncate"));
  rope.truncate = truncate.value_or(true);
  return rope;
}

}  // namespace

std::string_view to_string(RopeType type) {
  for (const TypeName& entry : kTypes) {
    if (entry.type == type) return entry.name;
  }
  return "unknown";
}

Expected<RopeConfig> parse_rope_config(const JsonReader& config) {
  RopeConfig plain;
  BIFOCAL_RETURN_IF_ERROR(read_number(config, "rope_theta", kMinTheta, kMaxTheta, plain.theta));
  BIFOCAL_ASSIGN_OR_RETURN(const auto parameters, config.get_object("rope_parameters"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto scaling, config.get_object("rope_scaling"));
  if (!parameters && !scaling) return plain;

  std::optional<RopeConfig> rope;
  for (const auto* settings : {&parameters, &scaling}) {
    if (!*settings) continue;
    BIFOCAL_ASSIGN_OR_RETURN(RopeConfig read, parse_settings(**settings, plain.theta));
    if (config.has("rope_theta") && read.theta != plain.theta) {
      return invalid_argument(fmt::format("rope_theta: got {}, but {} has {}", plain.theta,
                                          (*settings)->path_of("rope_theta"), read.theta));
    }
    // rope_scaling without a theta of its own takes rope_parameters'.
    if (rope && !(*settings)->has("rope_theta")) read.theta = rope->theta;
    if (rope && *rope != read) {
      return invalid_argument(
          "rope_parameters and rope_scaling are both present and differ; keep one of them (set the other to "
          "null)");
    }
    rope = read;
  }
  return *rope;
}

}  // namespace bifocal::weights
