// bifocal serve: listens at once, loads, serves, drains on SIGTERM.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/serve.h"
#include "cli/stack.h"
#include "server/app.h"

namespace bifocal::cli {
namespace {

constexpr uint64_t kMaxKeyFileBytes = uint64_t{1} << 20;
constexpr int kPortsTried = 100;

// The first SIGTERM or SIGINT drains a serving process; while it still loads, or on the second signal, it
// ends at once. Made before any other thread, so that all threads inherit the mask and only this one takes
// the signals.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    ::sigaddset(&set_, SIGTERM);
    ::sigaddset(&set_, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    ::signal(SIGPIPE, SIG_IGN);  // a reader of our output that went away is no reason to end
    thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  }
  // From now on the first signal drains this server; until forget_server(), after which it may go.
  void drain_on_signal(server::Server& server) { set_server(&server); }
  void forget_server() { set_server(nullptr); }

 private:
  void watch(const std::stop_token& stop) {
    constexpr timespec kPoll{0, 100'000'000};
    while (!stop.stop_requested()) {
      const int signal = ::sigtimedwait(&set_, nullptr, &kPoll);
      if (signal <= 0) continue;
      std::lock_guard lock(mutex_);
      if (server_ == nullptr)
        ::_exit(128 + SIGINT);  // still loading, or asked twice: nothing is worth waiting for
      log_info("{}: draining; once more to end at once", signal == SIGTERM ? "SIGTERM" : "SIGINT");
      server_->begin_drain();
      server_ = nullptr;
    }
  }
  void set_server(server::Server* server) {
    std::lock_guard lock(mutex_);
    server_ = server;
  }

  sigset_t set_{};
  std::mutex mutex_;  // held while the server is told, so that it can't go meanwhile
  server::Server* server_ = nullptr;
  std::jthread thread_;
};

Expected<std::unique_ptr<server::Server>> listen(server::ServerOptions options, bool next_free_port) {
  const uint16_t first = options.http.port;
  for (int tried = 1;; ++tried) {
    auto server = server::Server::create(options);
    const bool taken = !server.ok() && server.status().code() == StatusCode::unavailable;
    if (!taken || first == 0) return server;
    if (!next_free_port) {
      return invalid_argument(server.status().message() + "; choose another --port, or --next-free-port");
    }
    if (tried == kPortsTried || options.http.port == UINT16_MAX) return server;
    ++options.http.port;
  }
}

// The settings as /get_server_info shows them. Keys are left out: no secret ever gets near an answer.
JsonValue::Object shown_settings(const Settings& settings) {
  Settings copy = settings;
  JsonValue::Object out;
  for (const Option& option :
       join({model_options(copy.model), engine_options(copy.engine), serve_options(copy.serve)})) {
    if (option.flag == "--api-key" || option.flag == "--api-key-file") continue;
    std::string name(option.flag.substr(2));
    for (char& c : name) c = c == '-' ? '_' : c;
    out.emplace_back(std::move(name), std::visit(
                                          [](const auto* v) {
                                            using T = std::decay_t<decltype(*v)>;
                                            if constexpr (std::is_same_v<T, std::vector<std::string>>) {
                                              return JsonValue(JsonValue::Array(v->begin(), v->end()));
                                            } else {
                                              return JsonValue(*v);
                                            }
                                          },
                                          option.target));
  }
  return out;
}

}  // namespace

Expected<server::ServerOptions> server_options(const Settings& settings) {
  const ServeSettings& s = settings.serve;
  server::ServerOptions options;
  options.http.host = s.host;
  options.http.port = static_cast<uint16_t>(s.port);
  options.http.max_connections = static_cast<int>(s.max_connections);
  const int64_t max_body_bytes = parse_bytes(s.max_body);
  if (max_body_bytes <= 0) {
    return invalid_argument(
        fmt::format("--max-body: \"{}\" is not a size; expected for example 8MiB", s.max_body));
  }
  options.http.parser.max_body_bytes = static_cast<size_t>(max_body_bytes);
  for (const std::string& key : s.api_keys) {
    if (key.empty()) return invalid_argument("--api-key: an empty key would let everybody in");
    options.api_keys.push_back(server::make_api_key(key));
  }
  if (!s.api_key_file.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(s.api_key_file, kMaxKeyFileBytes));
    auto keys = server::parse_api_key_file(text);
    if (!keys.ok()) return keys.status().with_context(s.api_key_file);
    options.api_keys.insert(options.api_keys.end(), keys->begin(), keys->end());
  }
  options.allowed_hosts = s.allowed_hosts;
  options.allowed_origins = s.allowed_origins;
  options.insecure_no_auth = s.insecure_no_auth;
  options.reasoning_parser = s.reasoning_parser;
  BIFOCAL_ASSIGN_OR_RETURN(options.sampling_defaults, server::parse_sampling_defaults(s.sampling_defaults));
  options.enable_cache_report = s.enable_cache_report;
  options.incremental_streaming_output = s.incremental_streaming_output;
  options.stream_interval = static_cast<int>(s.stream_interval);
  options.random_seed = static_cast<uint64_t>(settings.engine.random_seed);
  options.request_timeout_s = s.request_timeout_s;
  options.drain_timeout_s = s.drain_timeout_s;
  options.log_requests = s.log_requests;
  options.profile_dir = s.profile_dir;
  return options;
}

std::shared_ptr<const server::ServingContext> serving_context(const Settings& settings, const Stack& stack) {
  auto context = std::make_shared<server::ServingContext>();
  context->engine = stack.engine.get();
  context->tokenizer = stack.tokenizer;
  context->chat_template = stack.chat_template;
  context->served_model_name = stack.served_name;
  context->model_path = settings.model.model_path;
  context->tokenizer_path =
      settings.model.tokenizer_path.empty() ? settings.model.model_path : settings.model.tokenizer_path;
  context->model_type = stack.plan.config.model_type;
  context->vocab_size = stack.plan.spec.vocab_size;
  context->generation = stack.plan.config.generation;
  context->server_args = shown_settings(settings);
  context->created_s =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  return context;
}

Status run_serve(const Settings& settings) {
  Signals signals;
  BIFOCAL_ASSIGN_OR_RETURN(server::ServerOptions options, server_options(settings));
  BIFOCAL_ASSIGN_OR_RETURN(const auto server, listen(std::move(options), settings.serve.next_free_port));
  server->start();
  log_info("listening on {}", server->url());
  BIFOCAL_ASSIGN_OR_RETURN(const Stack stack, load_stack(settings));
  server->set_ready(serving_context(settings, stack));
  signals.drain_on_signal(*server);
  log_info("ready: {} at {}", stack.served_name, server->url());
  fmt::print(stderr,
             "\n  curl -N {0}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
             "       -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}],\"stream\":true}}'\n"
             "  or {0}/ in a browser\n\n",
             server->url());
  Status status = server->wait();
  signals.forget_server();
  return status;
}

}  // namespace bifocal::cli
