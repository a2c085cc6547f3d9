// What a client asks of the engine, and what it gets back. Native types only: no JSON past the server.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/sampling_params.h"

namespace bifocal::engine {

struct GenerateRequest {
  std::string id;                   // unique among live requests
  std::vector<int32_t> prompt_ids;  // not empty
  SamplingParams sampling;
  bool return_logprob = false;
  int64_t logprob_start_len =
      -1;  // -1: output only; otherwise the first prompt position whose logprob is wanted
  int top_logprobs_num = 0;
  uint64_t cache_namespace = 0;  // prefixes are shared within a namespace only
};

struct TokenLogprob {
  float logprob = 0;
  int32_t token_id = 0;
};

struct OutputToken {
  int32_t id = 0;
  float logprob = 0;  // of the distribution before temperature and truncation; set if return_logprob
  std::vector<TokenLogprob> top_logprobs;  // top_logprobs_num entries, best first
};

enum class FinishReason : uint8_t { none, stop, length, abort, error };

// One piece of one choice's output. Events of a choice come in order; the last has finish != none.
struct OutputEvent {
  int choice = 0;                   // 0 .. n-1
  std::vector<OutputToken> tokens;  // new since the last event
  std::string text;                 // new text, whole characters, stop strings removed
  FinishReason finish = FinishReason::none;
  std::optional<int32_t> matched_token;       // the stop token
  std::optional<std::string> matched_string;  // the stop string
  Status error;                               // with finish abort or error
  // Prompt logprobs: in the first event of choice 0. Entry 0 of the prompt has none.
  std::vector<std::optional<OutputToken>> prompt_logprobs;
  // Totals so far.
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
};

// Called on the engine's thread: must be quick and must not block or call back into the engine.
using EventSink = std::function<void(OutputEvent)>;

}  // namespace bifocal::engine
