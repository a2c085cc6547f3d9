// The HTTP server as the command line sees it: it listens at once, serves once the model is given to it, and
// drains.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/options.h"

namespace bifocal::server {

class Server {
 public:
  // Binds the port; nothing is answered before start(). Errors: unavailable when the port is taken (try
  // another one); invalid_argument for anything else in the options.
  static Expected<std::unique_ptr<Server>> create(ServerOptions options);
  // As stop().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;
  std::string url() const;  // "http://127.0.0.1:8080"

  // Answers from here on: /health 200, /ready and everything else 503.
  void start();
  // The model is loaded: requests are accepted. context->engine must outlive the server.
  void set_ready(std::shared_ptr<const ServingContext> context);

  // No new work (503); what runs goes on. Probes are still answered. Any thread.
  void begin_drain();
  // Until the server has drained (at most drain_timeout_s after begin_drain; then what is left gets a last
  // error event) or was stopped: ok. internal when the engine failed. The server is stopped when this
  // returns.
  Status wait();
  // Cuts every connection, aborts what runs, joins. Any thread except the server's own; may be called again.
  void stop();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bifocal::server
