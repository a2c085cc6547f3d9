// Errors as clients see them: fixed text and a field's path, never bytes that a client sent.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "server/http/message.h"

namespace bifocal::server {

struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string code;   // "context_length_exceeded", "queue_full", ...; "" is null
  std::string param;  // the field's path; "" is null
  std::string message;
  int retry_after_s = 0;  // > 0: a Retry-After header
};

// By the status code: 400, 404, 429, 503, 504 or 500. A message that begins with "field.path: " gives the
// param. Internal errors are not told to clients.
ApiError to_api_error(const Status& status);

ApiError bad_request(std::string param, std::string message);
ApiError not_found_error(std::string message);
ApiError unavailable_error(std::string code, std::string message);
ApiError queue_full_error(int retry_after_s);
ApiError context_length_error(int64_t prompt_tokens, int64_t context_length);
ApiError deadline_error();

// One body for every API: OpenAI's {"error": {message, type, param, code}} with SGLang's flat members beside
// it
// {"object": "error", message, type, param, code: <HTTP status>}.
std::string error_json(const ApiError& error);
http::Response error_response(const ApiError& error);
// The last event of a stream that fails: "data: {...}\n\n".
std::string error_event(const ApiError& error);

}  // namespace bifocal::server
