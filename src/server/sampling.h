// Sampling parameters from JSON, in OpenAI's and in SGLang's spelling: every value typed and within its
// range.
#pragma once

#include "base/json.h"
#include "base/status.h"
#include "engine/sampling_params.h"
#include "server/options.h"

namespace bifocal::server {

enum class SamplingDialect : uint8_t {
  native,       // sampling_params of /generate
  completions,  // /v1/completions
  chat,         // /v1/chat/completions
};

struct ParsedSampling {
  engine::SamplingParams params;
  // max tokens was 0: the prompt is scored and nothing generated. The engine makes one token, which is
  // dropped.
  bool score_only = false;
  bool seed_given = false;  // else params.seed is the default
  int stream_interval = 1;  // tokens per stream event
};

// `context_length` bounds the output of requests that name no maximum.
Expected<ParsedSampling> parse_sampling(const JsonReader& body, SamplingDialect dialect,
                                        const ServerOptions& options, const ServingContext& context);

}  // namespace bifocal::server
