#include "engine/sampling_params.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace bifocal::engine {
namespace {

Status out_of_range(const char* field, double value, const char* range) {
  return invalid_argument(fmt::format("{} is {}, expected {}", field, value, range));
}

Status too_many(const char* field, size_t count, size_t limit) {
  return invalid_argument(fmt::format("{} has {} entries, expected at most {}", field, count, limit));
}

Status check_tokens(const SamplingParams& params, int vocab_size) {
  if (params.logit_bias.size() > kMaxLogitBias)
    return too_many("logit_bias", params.logit_bias.size(), kMaxLogitBias);
  for (const auto& [token, value] : params.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      return invalid_argument(
          fmt::format("logit_bias names token {}, the vocabulary has 0 to {}", token, vocab_size - 1));
    }
    if (!(value >= -100.0F && value <= 100.0F)) {
      return invalid_argument(
          fmt::format("logit_bias of token {} is {}, expected -100 to 100", token, value));
    }
  }
  if (params.stop_token_ids.size() > kMaxStopTokens) {
    return too_many("stop_token_ids", params.stop_token_ids.size(), kMaxStopTokens);
  }
  for (const int32_t token : params.stop_token_ids) {
    if (token < 0 || token >= vocab_size) {
      return invalid_argument(
          fmt::format("stop_token_ids names token {}, the vocabulary has 0 to {}", token, vocab_size - 1));
    }
  }
  return {};
}

}  // namespace

Status validate(const SamplingParams& params, int vocab_size) {
  // Written so that NaN fails every test.
  constexpr double kMax = std::numeric_limits<float>::max();
  struct Range {
    const char* field;
    double value;
    bool inside;
    const char* range;
  };
  const auto between = [](double v, double low, double high) { return v >= low && v <= high; };
  const Range ranges[] = {
      {"temperature", params.temperature, between(params.temperature, 0, kMax),
       "a finite number, at least 0"},
      {"top_p", params.top_p, params.top_p > 0 && params.top_p <= 1, "more than 0, at most 1"},
      {"top_k", static_cast<double>(params.top_k), params.top_k >= -1, "-1 (all) or more"},
      {"min_p", params.min_p, between(params.min_p, 0, 1), "0 to 1"},
      {"repetition_penalty", params.repetition_penalty,
       params.repetition_penalty > 0 && params.repetition_penalty <= 2, "more than 0, at most 2"},
      {"frequency_penalty", params.frequency_penalty, between(params.frequency_penalty, -2, 2), "-2 to 2"},
      {"presence_penalty", params.presence_penalty, between(params.presence_penalty, -2, 2), "-2 to 2"},
      {"max_new_tokens", static_cast<double>(params.max_new_tokens), params.max_new_tokens >= 0, "0 or more"},
      {"min_new_tokens", static_cast<double>(params.min_new_tokens),
       params.min_new_tokens >= 0 && params.min_new_tokens <= params.max_new_tokens, "0 to max_new_tokens"},
      {"n", static_cast<double>(params.n), params.n >= 1 && params.n <= kMaxChoices, "1 to 16"},
  };
  for (const Range& r : ranges) {
    if (!r.inside) return out_of_range(r.field, r.value, r.range);
  }
  if (params.stop.size() > kMaxStopStrings) return too_many("stop", params.stop.size(), kMaxStopStrings);
  for (const std::string& stop : params.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return invalid_argument(
          fmt::format("stop: a string of {} bytes, expected 1 to {}", stop.size(), kMaxStopBytes));
    }
  }
  return check_tokens(params, vocab_size);
}

}  // namespace bifocal::engine
