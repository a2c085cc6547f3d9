#include "server/api_error.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace bifocal::server {
namespace {

constexpr size_t kMaxMessageBytes = 1000;
constexpr std::string_view kNumericFault = "numeric_fault";  // how the engine begins that message

bool is_path_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == '[' || c == ']';
}

// "messages[2].content" of "messages[2].content: expected string, got array".
std::string path_of_message(std::string_view message) {
  const size_t colon = message.find(": ");
  if (colon == std::string_view::npos || colon == 0) return {};
  const std::string_view path = message.substr(0, colon);
  return std::all_of(path.begin(), path.end(), is_path_char) && path != "JSON" ? std::string(path)
                                                                               : std::string();
}

std::string cut(std::string message) {
  if (message.size() > kMaxMessageBytes) message.resize(kMaxMessageBytes);
  return message;
}

void write_nullable(JsonWriter& json, std::string_view name, const std::string& value) {
  json.key(name);
  value.empty() ? json.null() : json.value(value);
}

}  // namespace

ApiError to_api_error(const Status& status) {
  ApiError error;
  error.message = cut(status.message());
  switch (status.code()) {
    case StatusCode::invalid_argument:
    case StatusCode::data_loss:
      error.param = path_of_message(error.message);
      return error;
    case StatusCode::unsupported:
      error.code = "unsupported";
      error.param = path_of_message(error.message);
      return error;
    case StatusCode::not_found:
      return not_found_error(error.message);
    case StatusCode::resource_exhausted:
      return queue_full_error(1);
    case StatusCode::unavailable:
      return unavailable_error("unavailable", error.message);
    case StatusCode::deadline_exceeded:
      return deadline_error();
    case StatusCode::cancelled:
      error.status = 503;
      error.type = "server_error";
      error.code = "aborted";
      error.message = "the request was aborted";
      return error;
    case StatusCode::ok:
    case StatusCode::internal:
      break;
  }
  error.status = 500;
  error.type = "server_error";
  if (status.message().starts_with(kNumericFault)) {
    error.code = kNumericFault;
    error.message = "the model's output for this request was not finite, or no token was allowed";
    return error;
  }
  error.code = "internal_error";
  error.message = "internal error; the server's log says more";
  return error;
}

ApiError bad_request(std::string param, std::string message) {
  ApiError error;
  error.message = param.empty() ? std::move(message) : param + ": " + message;
  error.param = std::move(param);
  return error;
}

ApiError not_found_error(std::string message) {
  ApiError error;
  error.status = 404;
  error.type = "not_found_error";
  error.code = "not_found";
  error.message = std::move(message);
  return error;
}

ApiError unavailable_error(std::string code, std::string message) {
  ApiError error;
  error.status = 503;
  error.type = "unavailable_error";
  error.code = std::move(code);
  error.message = std::move(message);
  error.retry_after_s = 5;
  return error;
}

ApiError queue_full_error(int retry_after_s) {
  ApiError error;
  error.status = 429;
  error.type = "overloaded";
  error.code = "queue_full";
  error.message = "the queue is full; try again later";
  error.retry_after_s = std::clamp(retry_after_s, 1, 60);
  return error;
}

ApiError context_length_error(int64_t prompt_tokens, int64_t context_length) {
  ApiError error;
  error.code = "context_length_exceeded";
  error.message = fmt::format(
      "the prompt has {} tokens; this model's context of {} tokens leaves room for at most {} prompt tokens",
      prompt_tokens, context_length, context_length - 1);
  return error;
}

ApiError deadline_error() {
  ApiError error;
  error.status = 504;
  error.type = "timeout_error";
  error.code = "deadline";
  error.message = "the request's deadline passed";
  return error;
}

std::string error_json(const ApiError& error) {
  JsonWriter json;
  json.begin_object();
  json.key("error").begin_object();
  json.member("message", error.message).member("type", error.type);
  write_nullable(json, "param", error.param);
  write_nullable(json, "code", error.code);
  json.end_object();
  json.member("object", "error").member("message", error.message).member("type", error.type);
  write_nullable(json, "param", error.param);
  json.member("code", error.status);
  json.end_object();
  return json.take();
}

http::Response error_response(const ApiError& error) {
  http::Response response;
  response.status = error.status;
  response.body = error_json(error);
  if (error.retry_after_s > 0)
    response.headers.push_back({"Retry-After", std::to_string(error.retry_after_s)});
  if (error.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  response.close = error.status == 503;
  return response;
}

std::string error_event(const ApiError& error) {
  return "data: " + error_json(error) + "\n\n";
}

}  // namespace bifocal::server
