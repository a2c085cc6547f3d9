#include "server/app.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/descriptor_limit.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "server/gate.h"
#include "server/generation.h"
#include "server/ids.h"
#include "server/routes.h"
#include "text/reasoning_parser.h"

namespace bifocal::server {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kMaxTimeout_s = 1e7;

int64_t nanoseconds(Clock::time_point time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

constexpr auto kPoll = milliseconds(20);
// For last events to reach their clients, once nothing more will follow.
constexpr auto kFlushTime = milliseconds(2000);

int worker_threads(const ServerOptions& options) {
  return options.num_workers > 0 ? options.num_workers : std::clamp(ThreadPool::available_cores(), 1, 4);
}

Status validate(const ServerOptions& options) {
  if (!is_loopback_host(options.http.host) && options.api_keys.empty() && !options.insecure_no_auth) {
    return invalid_argument(
        fmt::format("--host {}: others can reach this address, and no API key is set; give --api-key or "
                    "--api-key-file, or --insecure-no-auth if that is meant",
                    options.http.host));
  }
  if (!options.reasoning_parser.empty()) {
    BIFOCAL_RETURN_IF_ERROR(text::ReasoningParser::create(options.reasoning_parser, false)
                                .status()
                                .with_context("--reasoning-parser"));
  }
  if (options.stream_interval < 1) return invalid_argument("--stream-interval: expected at least 1");
  if (!(options.request_timeout_s > 0 && options.request_timeout_s <= kMaxTimeout_s)) {
    return invalid_argument(
        fmt::format("--request-timeout: expected more than 0, at most {:.0f} seconds", kMaxTimeout_s));
  }
  const Status profile_dir = Profiler::check(options.profile_dir);
  if (!profile_dir.ok()) return profile_dir.with_context("--profile-dir " + options.profile_dir);
  if (options.http.max_connections < 1) return invalid_argument("--max-connections: expected at least 1");
  return {};
}

}  // namespace

class Server::Impl final : public http::Application {
 public:
  explicit Impl(ServerOptions options)
      : options_(std::move(options)), services_(options_, worker_threads(options_)), gate_(services_) {}
  ~Impl() override { stop(); }

  Status listen() {
    BIFOCAL_ASSIGN_OR_RETURN(http_, http::HttpServer::listen(options_.http, *this));
    raise_descriptor_limit(options_.http.max_connections);
    return {};
  }
  void start() { http_->start(); }
  uint16_t port() const { return http_->port(); }
  const ServerOptions& options() const { return options_; }

  void set_ready(std::shared_ptr<const ServingContext> context) {
    {
      std::lock_guard lock(mutex_);
      context_ = std::move(context);
    }
    Lifecycle expected = Lifecycle::starting;
    if (!services_.lifecycle.compare_exchange_strong(expected, Lifecycle::ready))
      this->context()->engine->begin_drain();
  }

  void begin_drain() {
    services_.lifecycle = Lifecycle::draining;
    if (const auto context = this->context()) context->engine->begin_drain();
    http_->end_keep_alive();
    std::lock_guard lock(mutex_);
    if (!drain_began_) drain_began_ = Clock::now();
    wake_.notify_all();
  }

  Status wait() {
    Status result;
    for (;;) {
      std::optional<Clock::time_point> drain_began;
      {
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, kPoll, [&] { return stopped_; });
        if (stopped_) break;
        drain_began = drain_began_;
      }
      const auto context = this->context();
      if (context != nullptr && context->engine->failed()) {
        result = internal_error("the engine has failed");
        flush();
        break;
      }
      if (!drain_began) continue;
      if (is_idle()) break;
      const std::chrono::duration<double> waited = Clock::now() - *drain_began;
      if (waited.count() < options_.drain_timeout_s) continue;
      for (const auto& generation : services_.live.all(LiveRequests::kEveryone)) {
        generation->cut(AbortReason::shutdown,
                        unavailable_error("shutting_down", "the server is shutting down"));
      }
      flush();
      break;
    }
    stop();
    return result;
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
      wake_.notify_all();
    }
    std::lock_guard lock(stop_mutex_);
    if (http_ == nullptr) return;
    http_->stop();             // every client is gone now, so every generation is being aborted
    services_.prepare.join();  // nobody is on the way to the engine any more, which may go after this
    for (int waits = 0; !services_.live.empty(); ++waits) {
      // The engine's callbacks point here: they must have ended.
      if (waits % 1000 == 999) log_warn("waiting for the engine to end {}", "what was aborted");
      std::this_thread::sleep_for(milliseconds(10));
    }
  }

  // ---- http::Application, on the I/O thread.
  std::optional<http::Response> screen(http::Request& request) override {
    auto refused = gate_.screen(request, context().get());
    if (refused) services_.metrics.answered("none", refused->status);
    return refused;
  }

  void handle(const std::shared_ptr<http::Exchange>& exchange) override {
    const Route& route = routes()[static_cast<size_t>(exchange->request().route)];
    Call call{exchange, context(), &services_};
    if (route.on_io_thread) {
      run(route, call);
    } else {
      services_.prepare.post([call = std::move(call), &route] {
        if (call.exchange->disconnect_reason() == http::DisconnectReason::none) run(route, call);
      });
    }
  }

  http::Response refusal(int status, std::string_view reason) override {
    services_.metrics.rejected(status == 503 ? RejectReason::limit : RejectReason::malformed);
    services_.metrics.answered("none", status);
    ApiError error;
    error.status = status;
    error.message = std::string(reason);
    if (status >= 500) error.type = "unavailable_error";
    return error_response(error);
  }

  void finished(const http::Exchange& exchange) override {
    const http::Request& request = exchange.request();
    const Route& route = routes()[static_cast<size_t>(request.route)];
    services_.metrics.answered(route.path, exchange.status());
    trace::async_span(trace::Kind::http, route.path, exchange.id(), nanoseconds(exchange.started()),
                      nanoseconds(Clock::now()),
                      {exchange.status(), static_cast<int64_t>(exchange.bytes_out())});
    if (!options_.log_requests) return;
    const auto elapsed = std::chrono::duration<double, std::milli>(Clock::now() - exchange.started());
    const std::string_view key =
        request.client < 0 ? "-"
                           : std::string_view(options_.api_keys[static_cast<size_t>(request.client)].id);
    log_info("request id={} key={} method={} route={} status={} bytes={} ms={:.1f} left={} {}", exchange.id(),
             key, route.method, route.path, exchange.status(), exchange.bytes_out(), elapsed.count(),
             to_string(exchange.disconnect_reason()), exchange.summary());
  }

  void connections_changed(int open_connections) override { services_.open_connections = open_connections; }

 private:
  static void run(const Route& route, const Call& call) {
    const trace::Span span(trace::Kind::http, route.path);
    try {
      route.handler(call);
    } catch (const std::exception& e) {  // out of memory: this request fails, the server goes on
      log_error("a request could not be handled: {}", e.what());
      call.fail(internal_error(""));
    }
  }

  std::shared_ptr<const ServingContext> context() const {
    std::lock_guard lock(mutex_);
    return context_;
  }

  bool is_idle() const { return services_.live.empty() && http_->open_exchanges() == 0; }
  void flush() const {
    for (const auto until = Clock::now() + kFlushTime; !is_idle() && Clock::now() < until;) {
      std::this_thread::sleep_for(milliseconds(5));
    }
  }

  const ServerOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<const ServingContext> context_;
  std::optional<Clock::time_point> drain_began_;
  bool stopped_ = false;
  std::mutex stop_mutex_;
  Services services_;
  Gate gate_;
  std::unique_ptr<http::HttpServer> http_;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Expected<std::unique_ptr<Server>> Server::create(ServerOptions options) {
  BIFOCAL_RETURN_IF_ERROR(validate(options));
  auto impl = std::make_unique<Impl>(std::move(options));
  BIFOCAL_RETURN_IF_ERROR(impl->listen());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

uint16_t Server::port() const {
  return impl_->port();
}

std::string Server::url() const {
  const std::string& host = impl_->options().http.host;
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port());
}

void Server::start() {
  impl_->start();
}
void Server::set_ready(std::shared_ptr<const ServingContext> context) {
  impl_->set_ready(std::move(context));
}
void Server::begin_drain() {
  impl_->begin_drain();
}
Status Server::wait() {
  return impl_->wait();
}
void Server::stop() {
  impl_->stop();
}

}  // namespace bifocal::server
