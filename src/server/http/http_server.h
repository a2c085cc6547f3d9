// The listener and its connections: one I/O thread that reads requests within limits, hands them to an
// Application and sends what the handlers write, while it watches every client for going away.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/http/exchange.h"
#include "server/http/request_parser.h"

namespace bifocal::server::http {

struct HttpOptions {
  std::string host = "127.0.0.1";  // a name or an address
  uint16_t port = 0;               // 0: any free one
  ParserLimits parser;
  ExchangeOptions exchange;
  int max_connections = 1024;  // further ones get 503
  // Bodies that are being read or worked on, all connections together; beyond it new ones get 503.
  uint64_t max_total_body_bytes = uint64_t{256} << 20;
  // One absolute deadline for a head, from its first byte (or from the connection's start).
  std::chrono::milliseconds head_timeout{10'000};
  std::chrono::milliseconds body_idle_timeout{10'000};
  std::chrono::milliseconds body_total_timeout{60'000};
  std::chrono::milliseconds keep_alive_timeout{75'000};  // an idle connection between requests
  std::chrono::milliseconds stall_timeout{30'000};       // a client that takes no bytes of its answer
  std::chrono::milliseconds sweep_interval{100};         // how finely the timeouts are kept
  int socket_send_buffer_bytes = 256 << 10;
};

class HttpServer {
 public:
  // Binds and listens; no connection is accepted before start(). application must outlive the server.
  // unavailable: the port is taken; invalid_argument: the host can't be resolved or bound.
  static Expected<std::unique_ptr<HttpServer>> listen(const HttpOptions& options, Application& application);
  // Closes everything and joins.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  void start();
  uint16_t port() const;
  // Requests that were read and whose answer is not entirely sent.
  int open_exchanges() const;
  // Connections close after the answer they are at; new ones are still accepted.
  void end_keep_alive();
  // Cuts every connection and joins the I/O thread.
  void stop();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bifocal::server::http
