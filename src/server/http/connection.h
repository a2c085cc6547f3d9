// One connection: reads requests within limits, has each answered, and notices when its client goes away. I/O
// thread only.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "server/http/exchange.h"
#include "server/http/http_server.h"
#include "server/http/request_parser.h"

namespace bifocal::server::http {

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
  using Clock = std::chrono::steady_clock;

  Connection(boost::asio::ip::tcp::socket socket, std::shared_ptr<Shared> shared);

  // One request after another, until either side ends it.
  boost::asio::awaitable<void> serve();
  // One connection too many: says so and leaves.
  boost::asio::awaitable<void> turn_away();
  // The timeouts, all in one place.
  void sweep(Clock::time_point now);
  void close();

 private:
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  void end();
  void next_request();
  // Reads once into the parser. False at the end of the connection or on a timeout.
  Awaitable<bool> read_some();
  Awaitable<bool> read_head();
  // Room for the body, before any of it is read.
  std::optional<Response> reserve_body();
  void release_body();
  Awaitable<bool> read_body();
  Response refusal();
  // Says no to a request whose body is not read, and ends the connection.
  Awaitable<void> refuse(Response response);
  // Hands the request over and sends what comes back. True when the connection may carry another request.
  Awaitable<bool> answer();
  void leave_exchange();
  void watch();
  Awaitable<void> stop_watching();
  Awaitable<bool> send(std::string_view bytes);

  // For the way out of answer() through an exception.
  struct ExchangeGuard {
    Connection& connection;
    ~ExchangeGuard() { connection.leave_exchange(); }
  };

  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer event_;  // cancelled to wake the coroutine
  std::shared_ptr<Shared> shared_;
  RequestParser parser_;
  std::shared_ptr<Exchange> exchange_;  // while a request is being answered
  boost::asio::cancellation_signal stop_watching_;
  std::array<char, size_t{16} << 10> scratch_;
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

}  // namespace bifocal::server::http
