#include "server/server_fixture.h"

#include <unistd.h>

#include <fstream>
#include <thread>

namespace bifocal::server {

ServerOptions test_options() {
  ServerOptions options;
  options.http.sweep_interval = std::chrono::milliseconds(10);
  options.num_workers = 2;
  options.random_seed = 7;
  return options;
}

std::shared_ptr<ServingContext> test_context(FakeEngine& engine) {
  auto context = std::make_shared<ServingContext>();
  context->engine = &engine;
  context->tokenizer = std::make_shared<FakeTokenizer>();
  context->chat_template = std::make_shared<FakeTemplate>();
  context->served_model_name = "fake";
  context->model_path = "/models/fake";
  context->tokenizer_path = "/models/fake";
  context->model_type = "fake";
  context->vocab_size = FakeTokenizer::kVocab;
  context->created_s = 1'700'000'000;
  return context;
}

TestServer::TestServer(ServerOptions options, FakeEngineOptions engine_options)
    : engine(std::move(engine_options)), context(test_context(engine)) {
  auto created = Server::create(std::move(options));
  if (!created.ok()) {
    ADD_FAILURE() << created.status().message();
    return;
  }
  server = std::move(*created);
  server->start();
  server->set_ready(context);
}

Reply TestServer::get(std::string_view path, std::string_view headers) {
  const auto reply = fetch(port(), "GET", path, "", headers);
  EXPECT_TRUE(reply.has_value()) << "no answer to GET " << path;
  return reply.value_or(Reply());
}

Reply TestServer::post(std::string_view path, std::string_view body, std::string_view headers) {
  const auto reply = fetch(port(), "POST", path, body, headers);
  EXPECT_TRUE(reply.has_value()) << "no answer to POST " << path;
  return reply.value_or(Reply());
}

double TestServer::metric(std::string_view sample) {
  const std::string text = get("/metrics").body;
  const size_t at = text.find("\n" + std::string(sample) + " ");
  if (at == std::string::npos) return -1;
  return std::stod(text.substr(at + sample.size() + 2));
}

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return true;
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;  // pages
  statm >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::string text_of(const JsonValue& value) {
  return value.is_string() ? value.as_string() : to_json(value);
}

}  // namespace bifocal::server
