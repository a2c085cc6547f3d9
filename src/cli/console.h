// One request at a time from the terminal: used by `generate` and `chat`.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "engine/engine.h"
#include "weights/model_config.h"

namespace bifocal::cli {

struct Completion {
  std::string text;
  engine::FinishReason finish = engine::FinishReason::none;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
  double first_token_s = 0;  // from submission to the first token
  double decode_s = 0;       // from the first token to the last
};

// Runs the request, calling on_text with each piece. SIGINT (Ctrl-C) while it runs aborts the request, not
// the process.
Expected<Completion> run_to_completion(engine::Engine& engine, engine::GenerateRequest request,
                                       const std::function<void(const std::string&)>& on_text);

// "57 tokens, first after 12 ms, then 812 tokens/s; prefill by tiled, decode by streaming"
std::string summary_line(const Completion& completion, const engine::EngineStats& stats);

// The sampling parameters that generation_config.json asks for, over the defaults.
engine::SamplingParams default_sampling(const weights::ModelConfig& config);

}  // namespace bifocal::cli
