// How tokens are chosen and when a request ends. Field names and defaults follow SGLang's sampling_params.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace bifocal::engine {

constexpr int kMaxChoices = 16;
constexpr size_t kMaxLogitBias = 1024;
constexpr size_t kMaxStopStrings = 16;
constexpr size_t kMaxStopBytes = 256;  // of one stop string
constexpr size_t kMaxStopTokens = 256;

// Applied to a row of logits in this order: logit_bias, repetition, frequency and presence penalty, the ban
// on end tokens before min_new_tokens, temperature, top_k, top_p (of what top_k left, renormalised), min_p.
struct SamplingParams {
  double temperature = 1.0;         // < 1e-6: greedy, the lowest id among equals
  double top_p = 1.0;               // (0, 1]
  int top_k = -1;                   // -1 or 0: all
  double min_p = 0.0;               // [0, 1], relative to the likeliest token
  double repetition_penalty = 1.0;  // (0, 2]; over prompt and output, as in Hugging Face transformers
  double frequency_penalty = 0.0;   // [-2, 2]; over the output
  double presence_penalty = 0.0;    // [-2, 2]; over the output
  std::vector<std::pair<int32_t, float>> logit_bias;  // token, value in [-100, 100]
  int64_t max_new_tokens = 128;  // clamped to the context; 0: the prompt is computed, no more
  int64_t min_new_tokens = 0;    // end tokens, not stop strings, are banned before
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool no_stop_trim = false;
  int n = 1;           // choices; choice i > 0 has a seed of its own, derived from seed and i
  uint64_t seed = 42;  // sampling is a stateless hash of (seed, position)
};

// Ranges as above; vocab_size is the logit width. Errors name the field.
Status validate(const SamplingParams& params, int vocab_size);

}  // namespace bifocal::engine
