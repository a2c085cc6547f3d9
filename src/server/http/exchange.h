// One request and its answer: the meeting point of a connection (I/O thread) and a handler (any thread).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace bifocal::server::http {

using TimePoint = std::chrono::steady_clock::time_point;

enum class DisconnectReason : uint8_t { none, client_gone, client_stalled, shutdown };
std::string_view to_string(DisconnectReason reason);

struct ExchangeOptions {
  size_t max_unsent_bytes = size_t{256} << 10;  // of a stream; see writable()
  std::chrono::milliseconds ping_interval{15'000};
};

class Exchange {
 public:
  // `wake` tells the connection that there is something to send or that the answer ended. Any thread calls
  // it, with a lock held, so that none is under way after detach().
  Exchange(Request request, const ExchangeOptions& options, std::function<void()> wake);

  // ---- The handler's side.
  const Request& request() const { return request_; }
  std::string take_body() { return std::move(request_.body); }
  // Unique; sent back as X-Request-Id.
  const std::string& id() const { return id_; }

  // The whole answer. False when an answer or a stream has begun, or the client is gone.
  bool respond(const Response& response);

  // The answer will be a stream of server-sent events. Its head goes out with the first event, or with the
  // first ping when nothing happens for a while; until then respond() still works, so that an early failure
  // gets a real status.
  void begin_stream();
  // Appends events ("data: ...\n\n"). False when the client is gone.
  bool write(std::string_view events);
  void end_stream();
  // False when max_unsent_bytes wait for the client: hold further events back until on_writable.
  bool writable() const;

  // Called on the I/O thread; on_disconnect at once, by the caller, when the client has already gone. Never
  // while a lock is held. They must be quick. None is called after the answer ended.
  void on_disconnect(std::function<void()> callback);
  void on_writable(std::function<void()> callback);  // each time bytes went out and half the buffer is free
  void on_deadline(TimePoint when, std::function<void()> callback);

  DisconnectReason disconnect_reason() const;

  // Facts for the log line; free text must be clean.
  void set_summary(std::string summary);
  std::string summary() const;

  // ---- The connection's side: I/O thread only.
  // Moves what is to be sent into `out` (replacing it). False when there is nothing.
  bool take_output(std::string& out);
  void output_sent();     // what was taken is in the kernel's hands
  bool finished() const;  // the answer ended; take_output() gives the last of it
  void disconnect(DisconnectReason reason);
  // Pings a silent stream, fires the deadline.
  void tick(TimePoint now);
  // Drops callbacks; no wake() after this. The handler's side stays safe to call.
  void detach();

  int status() const;
  uint64_t bytes_out() const;
  bool keep_alive() const;  // valid once the head was written
  TimePoint started() const { return started_; }

 private:
  void append_chunk(std::string_view data);
  void start_stream_locked();
  bool open_locked() const { return !finished_ && disconnected_ == DisconnectReason::none; }

  Request request_;
  const ExchangeOptions options_;
  const std::string id_;
  const TimePoint started_;

  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::function<void()> on_disconnect_;
  std::function<void()> on_writable_;
  std::function<void()> on_deadline_;
  TimePoint deadline_ = TimePoint::max();
  TimePoint last_output_;
  std::string unsent_;
  size_t in_flight_bytes_ = 0;  // taken by the connection, not sent yet
  std::string summary_;
  uint64_t bytes_out_ = 0;
  int status_ = 0;
  bool stream_ = false;
  bool head_written_ = false;
  bool finished_ = false;
  bool keep_alive_;
  DisconnectReason disconnected_ = DisconnectReason::none;
};

// What the HTTP layer asks of the program behind it. Both are called on the I/O thread and must not block.
class Application {
 public:
  virtual ~Application() = default;
  // The head is complete, the body not yet read. An answer refuses the request.
  virtual std::optional<Response> screen(Request& request) = 0;
  virtual void handle(const std::shared_ptr<Exchange>& exchange) = 0;
  // The body of the answer to a request that the HTTP layer itself refuses.
  virtual Response refusal(int status, std::string_view reason) = 0;
  // An answer went out, or the client left before it did.
  virtual void finished(const Exchange& exchange) = 0;
  virtual void connections_changed(int open_connections) = 0;
};

// The head and body of an answer to `request` as bytes; `id` may be empty.
std::string render(const Response& response, const Request& request, bool keep_alive, std::string_view id);

}  // namespace bifocal::server::http
