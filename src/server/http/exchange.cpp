#include "server/http/exchange.h"

#include <fmt/format.h>

#include <ctime>

#include "server/ids.h"

namespace bifocal::server::http {
namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  const size_t length = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text, length);
}

void append_headers(std::string& out, const std::vector<Header>& headers) {
  for (const Header& header : headers) {
    fmt::format_to(std::back_inserter(out), "{}: {}\r\n", header.name, header.value);
  }
}

void append_status_and_common(std::string& out, const Response& response, const Request& request,
                              bool keep_alive, std::string_view id) {
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\nDate: {}\r\nConnection: {}\r\n", response.status,
                 reason_phrase(response.status), http_date(), keep_alive ? "keep-alive" : "close");
  if (response.status != 204) {
    fmt::format_to(std::back_inserter(out), "Content-Type: {}\r\n", response.content_type);
  }
  if (!id.empty()) fmt::format_to(std::back_inserter(out), "X-Request-Id: {}\r\n", id);
  append_headers(out, response.headers);
  append_headers(out, request.answer_headers);
}

}  // namespace

std::string_view to_string(DisconnectReason reason) {
  switch (reason) {
    case DisconnectReason::none:
      return "none";
    case DisconnectReason::client_gone:
      return "client_gone";
    case DisconnectReason::client_stalled:
      return "client_stalled";
    case DisconnectReason::shutdown:
      return "shutdown";
  }
  return "unknown";
}

std::string render(const Response& response, const Request& request, bool keep_alive, std::string_view id) {
  std::string out;
  append_status_and_common(out, response, request, keep_alive, id);
  if (response.status != 204) {
    fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", response.body.size());
  }
  out += "\r\n";
  if (request.method != "HEAD" && response.status != 204) out += response.body;
  return out;
}

Exchange::Exchange(Request request, const ExchangeOptions& options, std::function<void()> wake)
    : request_(std::move(request)),
      options_(options),
      id_(random_id("req-")),
      started_(std::chrono::steady_clock::now()),
      wake_(std::move(wake)),
      last_output_(started_),
      keep_alive_(request_.keep_alive) {}

bool Exchange::respond(const Response& response) {
  std::lock_guard lock(mutex_);
  if (!open_locked() || head_written_) return false;
  keep_alive_ = keep_alive_ && !response.close;
  unsent_ = render(response, request_, keep_alive_, id_);
  status_ = response.status;
  head_written_ = true;
  finished_ = true;
  if (wake_) wake_();
  return true;
}

void Exchange::begin_stream() {
  std::lock_guard lock(mutex_);
  stream_ = true;
}

void Exchange::start_stream_locked() {
  if (head_written_) return;
  Response head;
  head.content_type = "text/event-stream";
  head.headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  if (request_.version >= 11) {
    head.headers.push_back({"Transfer-Encoding", "chunked"});
  } else {
    keep_alive_ = false;  // HTTP/1.0: the end of the connection ends the stream
  }
  append_status_and_common(unsent_, head, request_, keep_alive_, id_);
  unsent_ += "\r\n";
  status_ = 200;
  head_written_ = true;
}

void Exchange::append_chunk(std::string_view data) {
  if (data.empty()) return;
  if (request_.version < 11) {
    unsent_ += data;
    return;
  }
  fmt::format_to(std::back_inserter(unsent_), "{:x}\r\n", data.size());
  unsent_ += data;
  unsent_ += "\r\n";
}

bool Exchange::write(std::string_view events) {
  std::lock_guard lock(mutex_);
  if (!open_locked()) return false;
  const bool was_empty = unsent_.empty();
  start_stream_locked();
  append_chunk(events);
  last_output_ = std::chrono::steady_clock::now();
  if (was_empty && wake_) wake_();
  return true;
}

void Exchange::end_stream() {
  std::lock_guard lock(mutex_);
  if (!open_locked()) return;
  start_stream_locked();
  if (request_.version >= 11) unsent_ += "0\r\n\r\n";
  finished_ = true;
  if (wake_) wake_();
}

bool Exchange::writable() const {
  std::lock_guard lock(mutex_);
  return unsent_.size() + in_flight_bytes_ < options_.max_unsent_bytes;
}

void Exchange::on_disconnect(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    if (disconnected_ == DisconnectReason::none) {
      on_disconnect_ = std::move(callback);
      return;
    }
  }
  callback();
}

void Exchange::on_writable(std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  if (open_locked()) on_writable_ = std::move(callback);
}

void Exchange::on_deadline(TimePoint when, std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  if (!open_locked()) return;
  deadline_ = when;
  on_deadline_ = std::move(callback);
}

DisconnectReason Exchange::disconnect_reason() const {
  std::lock_guard lock(mutex_);
  return disconnected_;
}

void Exchange::set_summary(std::string summary) {
  std::lock_guard lock(mutex_);
  summary_ = std::move(summary);
}

std::string Exchange::summary() const {
  std::lock_guard lock(mutex_);
  return summary_;
}

bool Exchange::take_output(std::string& out) {
  std::lock_guard lock(mutex_);
  if (unsent_.empty()) return false;
  out.clear();
  out.swap(unsent_);
  in_flight_bytes_ = out.size();
  bytes_out_ += out.size();
  return true;
}

void Exchange::output_sent() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    in_flight_bytes_ = 0;
    if (open_locked() && unsent_.size() < options_.max_unsent_bytes / 2) callback = on_writable_;
  }
  if (callback) callback();
}

bool Exchange::finished() const {
  std::lock_guard lock(mutex_);
  return finished_;
}

void Exchange::disconnect(DisconnectReason reason) {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    if (disconnected_ != DisconnectReason::none) return;
    disconnected_ = reason;
    if (!finished_) callback = std::move(on_disconnect_);
    on_disconnect_ = nullptr;
    on_writable_ = nullptr;
    on_deadline_ = nullptr;
  }
  if (callback) callback();
}

void Exchange::tick(TimePoint now) {
  std::function<void()> expired;
  {
    std::lock_guard lock(mutex_);
    if (!open_locked()) return;
    if (now >= deadline_) {
      deadline_ = TimePoint::max();
      expired = std::move(on_deadline_);
      on_deadline_ = nullptr;
    } else if (stream_ && unsent_.empty() && in_flight_bytes_ == 0 &&
               now - last_output_ >= options_.ping_interval) {
      start_stream_locked();
      append_chunk(": ping\n\n");
      last_output_ = now;
      if (wake_) wake_();
    }
  }
  if (expired) expired();
}

void Exchange::detach() {
  std::function<void()>
      dropped[4];  // destroyed outside the lock: they may own the last reference to a handler
  {
    std::lock_guard lock(mutex_);
    dropped[0].swap(wake_);
    dropped[1].swap(on_disconnect_);
    dropped[2].swap(on_writable_);
    dropped[3].swap(on_deadline_);
    if (disconnected_ == DisconnectReason::none && !finished_) disconnected_ = DisconnectReason::shutdown;
  }
}

int Exchange::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

uint64_t Exchange::bytes_out() const {
  std::lock_guard lock(mutex_);
  return bytes_out_;
}

bool Exchange::keep_alive() const {
  std::lock_guard lock(mutex_);
  return keep_alive_;
}

}  // namespace bifocal::server::http
