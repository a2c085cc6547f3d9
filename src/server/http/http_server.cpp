#include "server/http/http_server.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
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

namespace bifocal::server::http {
namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

// A rule for the coroutines below: the outermost block declares a variable, and no condition contains a
// co_await. g++ 12 lays out the frame wrongly otherwise (GCC bug 106188), and the coroutine resumes at a wild
// address.

namespace {

constexpr size_t kReadBytes = size_t{16} << 10;
// What a client may send ahead of the answer it waits for. More than this ends the connection: unread bytes
// would hide its going away.
constexpr size_t kMaxPipelinedBytes = size_t{40} << 10;
// After an early refusal the rest of the request is read and dropped for a moment, or the kernel would answer
// the unread bytes with a reset that can destroy the refusal on its way.
constexpr auto kLinger = std::chrono::milliseconds(1000);
constexpr size_t kLingerBytes = size_t{16} << 20;
constexpr int kMaxTurnedAway = 256;  // connections above the limit that are still told so

auto catch_error(ErrorCode& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

// What connections share. Touched by the I/O thread only, except the atomics.
struct Shared {
  Shared(const HttpOptions& opts, Application& app) : options(opts), application(app) {}
  HttpOptions options;
  Application& application;
  std::atomic<int> open_exchanges{0};
  std::atomic<bool> end_keep_alive{false};
  uint64_t body_bytes = 0;  // promised to requests being read or answered
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, std::shared_ptr<Shared> shared)
      : socket_(std::move(socket)),
        event_(socket_.get_executor()),
        shared_(std::move(shared)),
        parser_(shared_->options.parser) {
    event_.expires_at(asio::steady_timer::time_point::max());
  }

  asio::awaitable<void> serve() {
    bool go_on = true;
    deadline_ = Clock::now() + shared_->options.head_timeout;
    while (!closed_) {
      go_on = co_await read_head();
      if (!go_on) break;
      Request& request = parser_.request();
      std::optional<Response> refused = shared_->application.screen(request);
      if (!refused) refused = reserve_body();
      if (!refused) {
        const bool has_body = co_await read_body();
        if (!has_body) refused = refusal();
      }
      if (refused) {
        co_await refuse(std::move(*refused));
        break;
      }
      go_on = co_await answer();
      release_body();
      if (!go_on) break;
      parser_.next();
      deadline_ = Clock::now() + shared_->options.keep_alive_timeout;
      idle_ = parser_.buffered_bytes() == 0;
      if (!idle_) deadline_ = Clock::now() + shared_->options.head_timeout;
    }
    release_body();
    end();
  }

  // One connection too many: says so and leaves.
  asio::awaitable<void> turn_away() {
    Response busy = shared_->application.refusal(503, "too many connections");
    busy.headers.push_back({"Retry-After", "1"});
    co_await refuse(std::move(busy));
    end();
  }

  // The timeouts, all in one place.
  void sweep(Clock::time_point now) {
    if (closed_) return;
    if (exchange_) {
      exchange_->tick(now);
      if (writing_ && now - last_progress_ > shared_->options.stall_timeout) {
        exchange_->disconnect(DisconnectReason::client_stalled);
        close();
      }
    } else if (now > deadline_) {
      timed_out_ = true;
      ErrorCode ignored;
      socket_.cancel(ignored);
    }
    if (idle_ && shared_->end_keep_alive) close();
  }

  void close() {
    closed_ = true;
    if (exchange_) exchange_->disconnect(DisconnectReason::shutdown);
    ErrorCode ignored;
    socket_.close(ignored);
    event_.cancel();
  }

 private:
  using State = RequestParser::State;

  void end() {
    ErrorCode ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
    closed_ = true;
  }

  // Reads once into the parser. False at the end of the connection or on a timeout.
  asio::awaitable<bool> read_some() {
    ErrorCode error;
    const size_t n = co_await socket_.async_read_some(asio::buffer(scratch_), catch_error(error));
    parser_.append({scratch_.data(), n});
    co_return !error && !closed_;
  }

  asio::awaitable<bool> read_head() {
    bool more = true;
    while (parser_.parse_head() == State::head) {
      more = co_await read_some();
      if (!more) co_return false;
      if (idle_) {  // the first bytes of the next request: from here on its head has its own deadline
        idle_ = false;
        deadline_ = Clock::now() + shared_->options.head_timeout;
      }
    }
    idle_ = false;
    if (parser_.state() == State::failed) {
      co_await refuse(refusal());
      co_return false;
    }
    co_return true;
  }

  // Room for the body, before any of it is read.
  std::optional<Response> reserve_body() {
    if (parser_.state() != State::body) return std::nullopt;
    const HttpOptions& options = shared_->options;
    const uint64_t wanted = parser_.content_length().value_or(options.parser.max_body_bytes);
    if (shared_->body_bytes + wanted > options.max_total_body_bytes) {
      Response busy = shared_->application.refusal(503, "too many request bodies at once");
      busy.headers.push_back({"Retry-After", "1"});
      return busy;
    }
    reserved_bytes_ = wanted;
    shared_->body_bytes += wanted;
    return std::nullopt;
  }
  void release_body() {
    shared_->body_bytes -= reserved_bytes_;
    reserved_bytes_ = 0;
  }

  asio::awaitable<bool> read_body() {
    const HttpOptions& options = shared_->options;
    const auto limit = Clock::now() + options.body_total_timeout;
    if (parser_.state() == State::body && parser_.expects_continue() && parser_.buffered_bytes() == 0) {
      deadline_ = Clock::now() + options.body_idle_timeout;
      const bool sent = co_await send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!sent) co_return false;
    }
    while (parser_.state() == State::body && parser_.parse_body() == State::body) {
      deadline_ = std::min(limit, Clock::now() + options.body_idle_timeout);
      const bool more = co_await read_some();
      if (!more) co_return false;
    }
    co_return parser_.state() == State::complete;
  }

  Response refusal() {
    if (parser_.state() == State::failed) {
      return shared_->application.refusal(parser_.failure().status, parser_.failure().reason);
    }
    if (timed_out_) return shared_->application.refusal(408, "the request took too long to arrive");
    return shared_->application.refusal(400, "the request ended early");
  }

  asio::awaitable<void> refuse(Response response) {
    deadline_ = Clock::now() + kLinger;
    timed_out_ = false;
    const std::string bytes = render(response, parser_.request(), false, "");
    const bool sent = co_await send(bytes);
    if (!sent) co_return;
    ErrorCode error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    for (size_t dropped = 0; !error && dropped < kLingerBytes && !timed_out_;) {
      const size_t n = co_await socket_.async_read_some(asio::buffer(scratch_), catch_error(error));
      dropped += n;
    }
  }

  // Hands the request over and sends what comes back. True when the connection may carry another request.
  asio::awaitable<bool> answer() {
    auto wake = [weak = weak_from_this(), executor = socket_.get_executor()] {
      asio::post(executor, [weak] {
        if (const auto self = weak.lock()) self->event_.cancel();
      });
    };
    exchange_ =
        std::make_shared<Exchange>(std::move(parser_.request()), shared_->options.exchange, std::move(wake));
    deadline_ = Clock::time_point::max();
    ++shared_->open_exchanges;
    const ExchangeGuard guard{*this};
    shared_->application.handle(exchange_);
    std::string output;
    ErrorCode ignored;
    bool sent = true;
    while (sent && !closed_) {
      const bool last = exchange_->finished();  // asked first: what is taken after it is all there will be
      if (exchange_->take_output(output)) {
        sent = co_await send(output);
        exchange_->output_sent();
      } else if (last || gone_) {
        break;
      } else {
        watch();
        co_await event_.async_wait(catch_error(ignored));
      }
    }
    if (!exchange_->finished() || !sent) exchange_->disconnect(DisconnectReason::client_gone);
    const bool go_on = sent && !gone_ && !closed_ && exchange_->finished() && exchange_->keep_alive() &&
                       !shared_->end_keep_alive;
    shared_->application.finished(*exchange_);
    leave_exchange();
    co_await stop_watching();
    co_return go_on && !gone_;
  }

  void leave_exchange() {
    if (!exchange_) return;
    exchange_->detach();
    exchange_.reset();
    --shared_->open_exchanges;
  }
  // For the way out through an exception.
  struct ExchangeGuard {
    Connection& connection;
    ~ExchangeGuard() { connection.leave_exchange(); }
  };

  // Reads while an answer is being made: nothing but the end of the connection, or the client's next request,
  // can arrive. The end means that nobody waits for the answer any more.
  void watch() {
    if (watching_ || gone_ || closed_) return;
    watching_ = true;
    auto handler = [self = shared_from_this()](ErrorCode error, size_t n) {
      self->watching_ = false;
      self->parser_.append({self->scratch_.data(), n});
      const bool flooded = self->parser_.buffered_bytes() > kMaxPipelinedBytes;
      if ((error && error != asio::error::operation_aborted) || flooded) {
        self->gone_ = true;
        if (self->exchange_) self->exchange_->disconnect(DisconnectReason::client_gone);
      } else if (!error && self->exchange_) {
        self->watch();
      }
      self->event_.cancel();
    };
    socket_.async_read_some(asio::buffer(scratch_),
                            asio::bind_cancellation_slot(stop_watching_.slot(), std::move(handler)));
  }

  asio::awaitable<void> stop_watching() {
    ErrorCode ignored;
    if (watching_) stop_watching_.emit(asio::cancellation_type::all);
    while (watching_) co_await event_.async_wait(catch_error(ignored));
  }

  asio::awaitable<bool> send(std::string_view bytes) {
    writing_ = true;
    last_progress_ = Clock::now();
    ErrorCode error;
    while (!bytes.empty() && !error && !closed_) {
      const size_t n =
          co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), catch_error(error));
      bytes.remove_prefix(n);
      last_progress_ = Clock::now();
    }
    writing_ = false;
    co_return bytes.empty();
  }

  tcp::socket socket_;
  asio::steady_timer event_;  // cancelled to wake the coroutine
  std::shared_ptr<Shared> shared_;
  RequestParser parser_;
  std::shared_ptr<Exchange> exchange_;  // while a request is being answered
  asio::cancellation_signal stop_watching_;
  std::array<char, kReadBytes> scratch_;
  Clock::time_point deadline_;  // of what is being read; not while a request is being answered
  Clock::time_point last_progress_;
  uint64_t reserved_bytes_ = 0;
  bool watching_ = false;
  bool writing_ = false;
  bool timed_out_ = false;
  bool gone_ = false;
  bool closed_ = false;
  bool idle_ = false;  // between two requests
};

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpOptions& options, Application& application)
      : acceptor_(io_), sweep_timer_(io_), shared_(std::make_shared<Shared>(options, application)) {}
  ~Impl() { stop(); }

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
    thread_ = std::jthread([this] { io_.run(); });
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
