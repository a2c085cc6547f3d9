// Reads one HTTP/1.x answer from bytes as they come (RFC 9112), for the client. Strict where it is safe to
// be: what is not understood ends the exchange. No transport here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "server/http/message.h"

namespace bifocal::server::http {

struct ResponseLimits {
  size_t max_head_bytes = size_t{64} << 10;
  uint64_t max_body_bytes = uint64_t{1} << 30;
};

class ResponseParser {
 public:
  explicit ResponseParser(const ResponseLimits& limits = {}) : limits_(limits) {}

  // Appends the body's bytes, without chunk framing, to `body`. data_loss: no HTTP, or more than the limits.
  Status feed(std::string_view bytes, std::string& body);
  // The connection ended. data_loss when the answer isn't whole.
  Status finish();

  bool complete() const { return state_ == State::complete; }
  bool has_head() const { return state_ != State::head; }
  // Once there is a head:
  int status() const { return status_code_; }
  std::string_view header(std::string_view lower_case_name) const;  // "" when absent

 private:
  enum class State : uint8_t { head, counted, until_close, chunk_size, chunk, chunk_end, trailers, complete };

  Status parse_head(std::string_view head);
  Status choose_framing();
  Status parse_chunk_size(std::string_view line);
  // Moves up to `count` bytes of what is buffered to the body.
  Status take_body(uint64_t count, std::string& body);
  // A line without its end; false when it is not whole yet.
  bool take_line(std::string_view& line);

  ResponseLimits limits_;
  State state_ = State::head;
  int status_code_ = 0;
  std::vector<Header> headers_;  // names in lower case
  std::string buffer_;
  size_t used_ = 0;  // of buffer_
  uint64_t left_ = 0;
  uint64_t body_bytes_ = 0;
};

// Cuts a body of server-sent events into events (WHATWG HTML, "Server-sent events"): what stands behind
// "data:".
class EventSplitter {
 public:
  explicit EventSplitter(size_t max_event_bytes = size_t{64} << 20) : max_event_bytes_(max_event_bytes) {}
  // Appends the data of the events that are whole. data_loss: an event beyond the limit.
  Status feed(std::string_view bytes, std::vector<std::string>& events);

 private:
  size_t max_event_bytes_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
};

}  // namespace bifocal::server::http
