// What the server is told: its own settings, and the model it serves.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"
#include "server/api_keys.h"
#include "server/http/http_server.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "weights/generation_config.h"

namespace bifocal::server {

// Bounds on what one request may ask for.
struct RequestLimits {
  int max_choices = 16;                       // n
  int max_outputs_in_contexts = 4;            // n * max tokens, in multiples of the context length
  size_t max_prompts = 1024;                  // of a batch
  size_t max_prompt_bytes = size_t{4} << 20;  // text of one prompt, checked before it is tokenised
  size_t max_stops = 16;
  size_t max_stop_bytes = 256;
  size_t max_stop_tokens = 256;
  size_t max_logit_bias = 1024;
  int max_top_logprobs = 20;
  size_t max_tools = 128;
  size_t max_messages = 10'000;
  size_t max_id_bytes = 128;  // rid
};

enum class SamplingDefaults : uint8_t {
  model,   // generation_config.json's values where a request gives none
  openai,  // the API's own
};
Expected<SamplingDefaults> parse_sampling_defaults(std::string_view name);

struct ServerOptions {
  http::HttpOptions http;
  RequestLimits limits;

  std::vector<ApiKey> api_keys;              // empty: no key is asked for
  std::vector<std::string> allowed_hosts;    // further Host names accepted on loopback, without port
  std::vector<std::string> allowed_origins;  // CORS: exact origins, or "*"
  bool insecure_no_auth = false;             // allows a non-loopback host without keys

  std::string reasoning_parser;  // "qwen3", ...; "": reasoning stays in the content
  SamplingDefaults sampling_defaults = SamplingDefaults::model;
  bool enable_cache_report = false;           // cached tokens in OpenAI usage
  bool incremental_streaming_output = false;  // /generate streams new text instead of all text so far
  int stream_interval = 1;                    // tokens per stream event
  std::optional<uint64_t> random_seed;        // of requests that bring none; absent: a random one

  double request_timeout_s = 600;
  double drain_timeout_s = 30;
  double health_generate_timeout_s = 20;
  double engine_stall_s = 60;  // /ready fails when the engine's loop hasn't come round for so long
  int num_workers = 0;         // threads that parse and tokenise; 0: by the machine
  bool log_requests = false;   // one line per answer; never with content
  std::string profile_dir;     // where /start_profile may write; "": nowhere, profiles are off
};

// The model behind the API; given to the server once it is loaded.
struct ServingContext {
  engine::Engine* engine = nullptr;                         // must outlive the server
  std::shared_ptr<const text::Tokenizer> tokenizer;         // null: token ids only
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: no chat
  std::string served_model_name;
  std::string model_path;
  std::string tokenizer_path;
  std::string model_type;  // "qwen3"
  int vocab_size = 0;      // width of the logits: token ids are below it
  weights::GenerationConfig generation;
  JsonValue::Object server_args;  // shown by /get_server_info; must hold no secret
  int64_t created_s = 0;          // Unix time
};

}  // namespace bifocal::server
