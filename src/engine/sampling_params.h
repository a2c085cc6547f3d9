// How tokens are chosen and when a request ends. Field names and defaults follow SGLang's sampling_params.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace bifocal::engine {

struct SamplingParams {
  double temperature = 1.0;                           // < 1e-6: greedy
  double top_p = 1.0;                                 // (0, 1]
  int top_k = -1;                                     // -1: all
  double min_p = 0.0;                                 // [0, 1]
  double repetition_penalty = 1.0;                    // (0, 2]
  double frequency_penalty = 0.0;                     // [-2, 2]
  double presence_penalty = 0.0;                      // [-2, 2]
  std::vector<std::pair<int32_t, float>> logit_bias;  // token, value in [-100, 100]
  int64_t max_new_tokens = 128;                       // clamped to the context
  int64_t min_new_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool no_stop_trim = false;
  int n = 1;
  uint64_t seed = 42;  // sampling is a stateless hash of (seed, position, token)
};

// Ranges as above; vocab_size is the logit width. Errors name the field.
Status validate(const SamplingParams& params, int vocab_size);

}  // namespace bifocal::engine
