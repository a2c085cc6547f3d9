#include "bench/fake_server.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/json.h"

namespace bifocal::bench {
namespace {

using server::http::Exchange;
using server::http::Response;

bool generates(const Exchange& exchange) {
  const std::string& path = exchange.request().path;
  return path == "/generate" || path.ends_with("completions");
}

int64_t wanted_tokens(const JsonValue& body) {
  const JsonValue* params = body.find("sampling_params");
  for (const JsonValue* found : {body.find("max_tokens"), body.find("max_completion_tokens"),
                                 params != nullptr ? params->find("max_new_tokens") : nullptr}) {
    if (found != nullptr) return found->as_int();
  }
  return 0;
}

// The answer after `tokens` of them; `whole`: not as part of a stream.
std::string answer(const std::string& path, int64_t tokens, bool whole) {
  const auto length = static_cast<size_t>(tokens);
  const std::string all(length, 'x');
  if (path == "/generate") {
    return fmt::format(R"({{"text":"{}","meta_info":{{"completion_tokens":{}}}}})", all, tokens);
  }
  const std::string& text = whole ? all : "x";
  const std::string usage = whole ? fmt::format(R"(,"usage":{{"completion_tokens":{}}})", tokens) : "";
  if (path == "/v1/completions") return fmt::format(R"({{"choices":[{{"text":"{}"}}]{}}})", text, usage);
  return fmt::format(R"({{"choices":[{{"{}":{{"content":"{}"}}}}]{}}})", whole ? "message" : "delta", text,
                     usage);
}

void respond(Exchange& exchange, int status, std::string body) {
  Response response;
  response.status = status;
  response.body = std::move(body);
  exchange.respond(response);
}

void generate(Exchange& exchange) {
  const std::string path = exchange.request().path;
  const auto body = parse_json(exchange.request().body);
  if (!body.ok()) {
    respond(exchange, 400, R"({"error":{"message":"no JSON"}})");
    return;
  }
  const int64_t tokens = wanted_tokens(*body);
  if (!body->find("stream")->as_bool()) {
    respond(exchange, 200, answer(path, tokens, true));
    return;
  }
  exchange.begin_stream();
  for (int64_t i = 1; i <= tokens; ++i) {
    exchange.write(fmt::format("data: {}\n\n", answer(path, i, false)));
  }
  if (path != "/generate") {
    exchange.write(
        fmt::format("data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":{}}}}}\n\n", tokens));
  }
  exchange.write("data: [DONE]\n\n");
  exchange.end_stream();
}

}  // namespace

FakeServer::FakeServer() {
  server::http::HttpOptions options;
  options.max_connections = 4096;
  auto server = server::http::HttpServer::listen(options, *this);
  BIFOCAL_CHECK(server.ok());
  server_ = std::move(server).value();
  server_->start();
}

std::string FakeServer::url() const {
  return fmt::format("http://127.0.0.1:{}", server_->port());
}

std::vector<std::string> FakeServer::posts() const {
  const std::lock_guard lock(mutex_);
  return posts_;
}

void FakeServer::handle(const std::shared_ptr<Exchange>& exchange) {
  const std::string& path = exchange->request().path;
  if (generates(*exchange)) {
    most_at_once_ = std::max(most_at_once_.load(), ++at_once_);
    const int number = ++num_requests_;
    if (fail_every_ > 0 && number % fail_every_ == 0) {
      respond(*exchange, 500, R"({"error":{"message":"on purpose"}})");
      return;
    }
    waiting_.push_back(exchange);
    if (static_cast<int>(waiting_.size()) < group_) return;
    for (const auto& ready : waiting_) generate(*ready);
    waiting_.clear();
    return;
  }
  if (exchange->request().method == "POST") {
    const std::lock_guard lock(mutex_);
    posts_.push_back(path);
  }
  if (path == "/v1/models") {
    respond(*exchange, 200, R"({"data":[{"id":"fake"}]})");
  } else if (path == "/get_model_info") {
    respond(*exchange, 200,
            fmt::format(R"({{"tokenizer_path":"{}/models/tiny-qwen3"}})", BIFOCAL_SOURCE_DIR));
  } else if (path == "/get_server_info") {
    respond(*exchange, 200, R"({"internal_states":[{"avg_spec_accept_length":1.5}]})");
  } else {
    respond(*exchange, 200, "{}");
  }
}

Response FakeServer::refusal(int status, std::string_view reason) {
  Response response;
  response.status = status;
  response.body = reason;
  return response;
}

void FakeServer::finished(const Exchange& exchange) {
  if (generates(exchange)) --at_once_;
}

}  // namespace bifocal::bench
