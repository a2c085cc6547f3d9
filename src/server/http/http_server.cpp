#include "server/http/http_server.h"

#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>
#include <unordered_map>

#include "base/log.h"
#include "base/trace.h"
#include "server/http/connection.h"

namespace bifocal::server::http {
namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = Connection::Clock;

// For the coroutines below the rule of connection.cpp holds.

namespace {

constexpr int kMaxTurnedAway = 256;  // connections above the limit that are still told so

auto catch_error(ErrorCode& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpOptions& options, Application& application)
      : acceptor_(io_), sweep_timer_(io_), shared_(std::make_shared<Shared>(options, application)) {}
  // Without the memory to post a job there is no way on.
  ~Impl() { stop(); }  // NOLINT(bugprone-exception-escape)

  Status listen() {
    const HttpOptions& options = shared_->options;
    ErrorCode error;
    tcp::resolver resolver(io_);
    const auto results = resolver.resolve(options.host, std::to_string(options.port),
                                          tcp::resolver::passive | tcp::resolver::address_configured, error);
    if (error || results.empty()) {
      return invalid_argument(fmt::format(
          "host \"{}\" can't be resolved; use an address such as 127.0.0.1 or 0.0.0.0", options.host));
    }
    const tcp::endpoint endpoint = results.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use) {
      return unavailable(
          fmt::format("port {} on {} is taken by another program", options.port, options.host));
    }
    if (error) {
      return invalid_argument(
          fmt::format("can't listen on {} port {}: {}", options.host, options.port, error.message()));
    }
    port_ = acceptor_.local_endpoint().port();
    return {};
  }

  void start() {
    asio::co_spawn(io_, accept_loop(), asio::detached);
    asio::co_spawn(io_, sweep_loop(), asio::detached);
    thread_ = std::jthread([this] {
      trace::name_thread("http");
      io_.run();
    });
  }

  void stop() {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      stopping_ = true;
      ErrorCode ignored;
      acceptor_.close(ignored);
      sweep_timer_.cancel();
      // close() may run a handler's callback, but never changes connections_: coroutines go on later.
      for (const auto& [raw, connection] : connections_) connection->close();
    });
    thread_.join();
  }

  uint16_t port() const { return port_; }
  Shared& shared() { return *shared_; }

 private:
  asio::awaitable<void> accept_loop() {
    ErrorCode error;
    while (!stopping_) {
      tcp::socket socket = co_await acceptor_.async_accept(catch_error(error));
      if (stopping_) break;
      if (error) {  // out of descriptors, most likely: give others time to close
        log_warn("accepting a connection failed: {}", error.message());
        asio::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(catch_error(error));
        continue;
      }
      ErrorCode ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      socket.set_option(asio::socket_base::keep_alive(true), ignored);
      socket.set_option(asio::socket_base::send_buffer_size(shared_->options.socket_send_buffer_bytes),
                        ignored);
      const int room = shared_->options.max_connections - static_cast<int>(connections_.size());
      if (room <= -kMaxTurnedAway) continue;  // closes it
      auto connection = std::make_shared<Connection>(std::move(socket), shared_);
      asio::co_spawn(io_, serve(std::move(connection), room > 0), asio::detached);
    }
  }

  asio::awaitable<void> serve(std::shared_ptr<Connection> connection, bool admitted) {
    Connection* const key = connection.get();
    connections_.emplace(key, connection);
    count_connections();
    try {
      if (admitted) {
        co_await connection->serve();
      } else {
        co_await connection->turn_away();
      }
    } catch (const std::exception& e) {  // out of memory: this connection ends, the others go on
      log_error("a connection failed: {}", e.what());
      connection->close();
    }
    connections_.erase(key);
    count_connections();
  }

  void count_connections() {
    shared_->application.connections_changed(static_cast<int>(connections_.size()));
  }

  asio::awaitable<void> sweep_loop() {
    ErrorCode ignored;
    while (!stopping_) {
      sweep_timer_.expires_after(shared_->options.sweep_interval);
      co_await sweep_timer_.async_wait(catch_error(ignored));
      const auto now = Clock::now();
      for (const auto& [raw, connection] : connections_) connection->sweep(now);
    }
  }

  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer sweep_timer_;
  std::shared_ptr<Shared> shared_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  uint16_t port_ = 0;
  bool stopping_ = false;
  std::jthread thread_;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Expected<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options,
                                                         Application& application) {
  auto impl = std::make_unique<Impl>(options, application);
  BIFOCAL_RETURN_IF_ERROR(impl->listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

void HttpServer::start() {
  impl_->start();
}
uint16_t HttpServer::port() const {
  return impl_->port();
}
int HttpServer::open_exchanges() const {
  return impl_->shared().open_exchanges;
}
void HttpServer::end_keep_alive() {
  impl_->shared().end_keep_alive = true;
}
void HttpServer::stop() {
  impl_->stop();
}

}  // namespace bifocal::server::http
