// A request between submit and its last event.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/choice.h"
#include "engine/request.h"
#include "engine/request_stages.h"
#include "engine/step.h"

namespace bifocal::engine {

// Lives on the engine's thread once it is taken from the inbox.
struct LiveRequest {
  LiveRequest(GenerateRequest generate_request, EventSink event_sink, std::vector<int32_t> sorted_end_tokens,
              const text::Tokenizer* tokenizer)
      : request(std::move(generate_request)),
        sink(event_sink ? std::move(event_sink) : [](OutputEvent) {}),
        end_tokens(std::move(sorted_end_tokens)),
        prompt_len(static_cast<int64_t>(request.prompt_ids.size())),
        open_choices(request.sampling.n),
        stages(request.id, prompt_len) {
    for (int i = 0; i < request.sampling.n; ++i) choices.emplace_back(request, end_tokens, tokenizer, i);
  }
  LiveRequest(const LiveRequest&) = delete;
  LiveRequest& operator=(const LiveRequest&) = delete;

  bool wants_prompt_logprobs() const { return request.return_logprob && request.logprob_start_len >= 0; }

  RequestKey key = 0;  // given by the inbox
  const GenerateRequest request;
  EventSink sink;  // empty once it has thrown: nothing more is sent
  const std::vector<int32_t> end_tokens;
  const int64_t prompt_len;
  std::vector<Choice> choices;
  int open_choices;
  RequestStages stages;
  bool branched = false;  // the prompt is through: choices are sequences of their own
  int64_t cached_tokens = 0;
  // Of prompt positions logprob_start_len ...; handed out with the first event of choice 0.
  std::vector<std::optional<OutputToken>> prompt_logprobs;
  bool aborted = false;
  bool failed = false;
};

}  // namespace bifocal::engine
