// A running server on the fake engine.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "server/app.h"
#include "server/fake_engine.h"
#include "server/fake_text.h"
#include "server/test_client.h"

namespace bifocal::server {

ServerOptions test_options();
std::shared_ptr<ServingContext> test_context(FakeEngine& engine);

struct TestServer {
  explicit TestServer(ServerOptions options = test_options(), FakeEngineOptions engine_options = {});

  uint16_t port() const { return server->port(); }
  Reply get(std::string_view path, std::string_view headers = "");
  Reply post(std::string_view path, std::string_view body, std::string_view headers = "");
  // The value of a sample, without labels or with them: "bifocal_num_running_reqs{model_name=\"fake\"}".
  double metric(std::string_view sample);

  FakeEngine engine;
  std::shared_ptr<ServingContext> context;
  std::unique_ptr<Server> server;
};

// Polls until it holds; false after the timeout.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds timeout = kPatience);

int64_t resident_bytes();  // of this process

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;  // memory figures mean nothing
#else
inline constexpr bool kSanitized = false;
#endif

// Member of nested objects and arrays: at(json, "choices", 0, "message", "content").
inline const JsonValue& at(const JsonValue& value) {
  return value;
}
template <class... Rest>
const JsonValue& at(const JsonValue& value, std::string_view key, Rest... rest);
template <class... Rest>
const JsonValue& at(const JsonValue& value, int index, Rest... rest) {
  static const JsonValue kNull;
  if (!value.is_array() || static_cast<size_t>(index) >= value.as_array().size()) return kNull;
  return at(value.as_array()[static_cast<size_t>(index)], rest...);
}
template <class... Rest>
const JsonValue& at(const JsonValue& value, std::string_view key, Rest... rest) {
  static const JsonValue kNull;
  const JsonValue* found = value.find(key);
  return found == nullptr ? kNull : at(*found, rest...);
}
// What it holds as text, for EXPECT_EQ: strings as they are, anything else as JSON.
std::string text_of(const JsonValue& value);

}  // namespace bifocal::server
