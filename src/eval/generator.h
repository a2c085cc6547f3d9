// Where an evaluation gets its answers from: a server over HTTP, or an engine in this process.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace bifocal::eval {

struct Query {
  std::string text;                // the prompt, or
  std::vector<int32_t> token_ids;  // its tokens; a batch is all of one kind
  double temperature = 0.0;
  uint64_t seed = 42;
  int64_t max_new_tokens = 100;  // 0: the prompt is computed, no more
  int64_t prompt_logprob_start =
      -1;  // first position of the prompt whose log-probability is wanted; -1: none
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::vector<std::string> stop;
};

struct Answer {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;  // of each token, from the model's own distribution
  // Of the prompt's tokens from prompt_logprob_start on; the first may have none.
  std::vector<std::optional<float>> prompt_logprobs;
  int64_t cached_tokens = 0;  // of the prompt

  // Equal for two answers that agree in text, tokens and every bit of the log-probabilities.
  std::string fingerprint() const;
};

class Generator {
 public:
  virtual ~Generator() = default;
  // Answers all queries at the same time, as one batch; answers[i] is of queries[i].
  virtual Expected<std::vector<Answer>> generate(std::span<const Query> queries) = 0;
  virtual Status flush_cache() = 0;
  // The tokens of a prompt with this text. text must be valid UTF-8.
  virtual Expected<std::vector<int32_t>> encode(const std::string& text) = 0;
};

}  // namespace bifocal::eval
