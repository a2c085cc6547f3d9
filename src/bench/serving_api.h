// How a server is asked to generate, and what its answers say: the native API of SGLang and Bifocal, and
// OpenAI's two.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "bench/workload.h"

namespace bifocal::bench {

struct AskOptions {
  std::string model;  // name to send; not in the native API
  bool stream = true;
  bool ignore_eos = true;
  double temperature = 0;
  JsonValue::Object extra_body;  // members that are added, or replace ours
};

// What an event of a stream, or a whole answer, adds.
struct AnswerPiece {
  std::string text;                          // empty: no token, or one that is no whole character yet
  bool replaces_text = false;                // `text` is everything so far
  std::optional<int64_t> completion_tokens;  // so far
};

struct ServingApi {
  std::string_view path;
  bool takes_ids;  // prompts may be token ids
  JsonValue::Object (*body)(const WorkloadRequest& request, const AskOptions& options);
  Expected<AnswerPiece> (*piece)(const JsonReader& answer);
};

// What --backend names: an API, and what else such a server has.
struct ServingBackend {
  std::string_view name;
  const ServingApi* api;
  std::string_view flush_path;  // POST empties the prefix cache
  bool has_server_info;         // GET /get_server_info
};

// Errors: invalid_argument that lists the names.
Expected<ServingBackend> find_serving_backend(std::string_view name);
std::vector<std::string_view> serving_backends();

// The body of one request as JSON.
std::string request_body(const ServingApi& api, const WorkloadRequest& request, const AskOptions& options);

// One event of a stream, or a whole answer. data_loss: not of the API's shape, or the server's error.
Expected<AnswerPiece> read_piece(const ServingApi& api, std::string_view json);

}  // namespace bifocal::bench
