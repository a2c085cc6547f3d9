#include "server/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace bifocal::server {
namespace {

using engine::SamplingParams;

struct NumberField {
  std::string_view name;
  double SamplingParams::*member;
  double min;
  double max;
  bool above_min;  // min itself is out
};

constexpr NumberField kNumbers[] = {
    {"temperature", &SamplingParams::temperature, 0, 100, false},
    {"top_p", &SamplingParams::top_p, 0, 1, true},
    {"min_p", &SamplingParams::min_p, 0, 1, false},
    {"repetition_penalty", &SamplingParams::repetition_penalty, 0, 2, true},
    {"frequency_penalty", &SamplingParams::frequency_penalty, -2, 2, false},
    {"presence_penalty", &SamplingParams::presence_penalty, -2, 2, false},
};

struct FlagField {
  std::string_view name;
  bool SamplingParams::*member;
};

constexpr FlagField kFlags[] = {
    {"ignore_eos", &SamplingParams::ignore_eos},
    {"skip_special_tokens", &SamplingParams::skip_special_tokens},
    {"no_stop_trim", &SamplingParams::no_stop_trim},
};

constexpr int64_t kMaxTokensValue = INT32_MAX;

Status parse_numbers(const JsonReader& body, SamplingParams& params) {
  for (const NumberField& field : kNumbers) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto value, body.get_number(field.name, field.min, field.max));
    if (!value) continue;
    if (field.above_min && *value <= field.min) {
      return invalid_argument(fmt::format("{}: got {}, expected more than {}, at most {}",
                                          body.path_of(field.name), *value, field.min, field.max));
    }
    params.*field.member = *value;
  }
  for (const FlagField& field : kFlags) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto value, body.get_bool(field.name));
    if (value) params.*field.member = *value;
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto top_k, body.get_int("top_k", -1, INT32_MAX));
  if (top_k) {
    if (*top_k == 0) {
      return invalid_argument(body.path_of("top_k") + ": got 0, expected -1 (all tokens) or at least 1");
    }
    params.top_k = static_cast<int>(*top_k);
  }
  return {};
}

// "123" and nothing like it: "0123", "+1", "1e3" and " 1" are refused.
std::optional<int64_t> parse_token_key(std::string_view key) {
  if (key.empty() || key.size() > 10 || (key.size() > 1 && key[0] == '0')) return std::nullopt;
  int64_t value = 0;
  for (char c : key) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

Status parse_logit_bias(const JsonReader& body, const RequestLimits& limits, int vocab_size,
                        SamplingParams& params) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto object, body.get_object("logit_bias"));
  if (!object) return {};
  const std::string path = body.path_of("logit_bias");
  if (object->members().size() > limits.max_logit_bias) {
    return invalid_argument(fmt::format("{}: {} entries, expected at most {}", path, object->members().size(),
                                        limits.max_logit_bias));
  }
  for (const auto& [key, value] : object->members()) {
    const auto id = parse_token_key(key);
    if (!id || *id >= vocab_size) {
      return invalid_argument(fmt::format("{}: a key is not a token id from 0 to {}", path, vocab_size - 1));
    }
    const std::string entry = fmt::format("{}.{}", path, *id);
    if (!value.is_number()) return type_error(entry, "number", value);
    const double bias = value.as_double();
    if (!(bias >= -100 && bias <= 100)) {
      return invalid_argument(fmt::format("{}: got {}, expected -100 to 100", entry, bias));
    }
    params.logit_bias.emplace_back(static_cast<int32_t>(*id), static_cast<float>(bias));
  }
  return {};
}

Status parse_stops(const JsonReader& body, const RequestLimits& limits, const ServingContext& context,
                   SamplingParams& params) {
  BIFOCAL_ASSIGN_OR_RETURN(params.stop, body.get_strings("stop", limits.max_stops, limits.max_stop_bytes));
  if (std::any_of(params.stop.begin(), params.stop.end(), [](const std::string& s) { return s.empty(); })) {
    return invalid_argument(body.path_of("stop") + ": a stop string is empty");
  }
  if (!params.stop.empty() && context.tokenizer == nullptr) {
    return invalid_argument(body.path_of("stop") +
                            ": this server runs without a tokenizer; use stop_token_ids instead");
  }
  BIFOCAL_ASSIGN_OR_RETURN(
      const auto ids, body.get_ints("stop_token_ids", 0, context.vocab_size - 1, limits.max_stop_tokens));
  if (ids) params.stop_token_ids.assign(ids->begin(), ids->end());
  return {};
}

Status parse_choices(const JsonReader& body, const RequestLimits& limits, SamplingParams& params) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto n, body.get_int("n", 1, limits.max_choices));
  params.n = static_cast<int>(n.value_or(1));
  BIFOCAL_ASSIGN_OR_RETURN(const auto best_of, body.get_int("best_of", 1, INT32_MAX));
  if (best_of.value_or(1) > 1) return unsupported(body.path_of("best_of") + ": only 1 is supported; use n");
  return {};
}

// The names under which a dialect gives the largest number of tokens, first wins.
struct MaxTokensNames {
  std::string_view first;
  std::string_view second;
};
constexpr MaxTokensNames kMaxTokensNames[] = {
    {"max_new_tokens", ""},
    {"max_tokens", ""},
    {"max_completion_tokens", "max_tokens"},
};

Status parse_lengths(const JsonReader& body, SamplingDialect dialect, const RequestLimits& limits,
                     int64_t context_length, ParsedSampling& out) {
  SamplingParams& params = out.params;
  const MaxTokensNames names = kMaxTokensNames[static_cast<size_t>(dialect)];
  std::string_view name = names.first;
  BIFOCAL_ASSIGN_OR_RETURN(auto max_tokens, body.get_int(name, 0, kMaxTokensValue));
  if (!names.second.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto other, body.get_int(names.second, 0, kMaxTokensValue));
    if (!max_tokens && other) {
      max_tokens = other;
      name = names.second;
    }
  }
  const int64_t most = context_length * limits.max_outputs_in_contexts;
  if (!max_tokens) {
    constexpr int64_t kDefaults[] = {128, 16, 0};
    const int64_t usual = kDefaults[static_cast<size_t>(dialect)];
    params.max_new_tokens = usual > 0 ? usual : std::min(context_length, most / params.n);
  } else if (*max_tokens == 0) {
    if (dialect == SamplingDialect::chat)
      return invalid_argument(body.path_of(name) + ": got 0, expected at least 1");
    out.score_only = true;
    params.max_new_tokens = 1;
  } else {
    // What doesn't fit the context anyway doesn't count.
    params.max_new_tokens = std::min(*max_tokens, context_length);
  }
  if (params.max_new_tokens * params.n > most) {
    return invalid_argument(
        fmt::format("n: {} choices of up to {} tokens, expected at most {} tokens together", params.n,
                    params.max_new_tokens, most));
  }
  const std::string_view min_name = dialect == SamplingDialect::native ? "min_new_tokens" : "min_tokens";
  BIFOCAL_ASSIGN_OR_RETURN(const auto min_tokens, body.get_int(min_name, 0, kMaxTokensValue));
  params.min_new_tokens = min_tokens.value_or(0);
  if (params.min_new_tokens > params.max_new_tokens && !out.score_only) {
    return invalid_argument(fmt::format("{}: got {}, expected at most the maximum of {}",
                                        body.path_of(min_name), params.min_new_tokens,
                                        params.max_new_tokens));
  }
  if (out.score_only) params.min_new_tokens = 0;
  return {};
}

void apply_model_defaults(const weights::GenerationConfig& config, SamplingParams& params) {
  if (config.temperature) params.temperature = *config.temperature;
  if (config.top_p && *config.top_p > 0) params.top_p = *config.top_p;
  if (config.min_p) params.min_p = *config.min_p;
  if (config.top_k)
    params.top_k = *config.top_k <= 0 ? -1 : static_cast<int>(std::min<int64_t>(*config.top_k, INT32_MAX));
  if (config.repetition_penalty && *config.repetition_penalty > 0) {
    params.repetition_penalty = *config.repetition_penalty;
  }
}

}  // namespace

Expected<SamplingDefaults> parse_sampling_defaults(std::string_view name) {
  if (name == "model") return SamplingDefaults::model;
  if (name == "openai") return SamplingDefaults::openai;
  return invalid_argument("--sampling-defaults: expected model or openai");
}

Expected<ParsedSampling> parse_sampling(const JsonReader& body, SamplingDialect dialect,
                                        const ServerOptions& options, const ServingContext& context) {
  ParsedSampling out;
  if (options.sampling_defaults == SamplingDefaults::model)
    apply_model_defaults(context.generation, out.params);
  BIFOCAL_RETURN_IF_ERROR(parse_numbers(body, out.params));
  BIFOCAL_RETURN_IF_ERROR(parse_choices(body, options.limits, out.params));
  BIFOCAL_RETURN_IF_ERROR(
      parse_lengths(body, dialect, options.limits, context.engine->context_length(), out));
  BIFOCAL_RETURN_IF_ERROR(parse_stops(body, options.limits, context, out.params));
  BIFOCAL_RETURN_IF_ERROR(parse_logit_bias(body, options.limits, context.vocab_size, out.params));
  BIFOCAL_ASSIGN_OR_RETURN(const auto interval, body.get_int("stream_interval", 1, INT32_MAX));
  out.stream_interval = static_cast<int>(interval.value_or(options.stream_interval));
  const std::string_view seed_name = dialect == SamplingDialect::native ? "sampling_seed" : "seed";
  BIFOCAL_ASSIGN_OR_RETURN(const auto seed, body.get_int(seed_name, INT64_MIN, INT64_MAX));
  if (seed) out.params.seed = static_cast<uint64_t>(*seed);
  out.seed_given = seed.has_value();
  return out;
}

}  // namespace bifocal::server
