// Turns the bytes of a connection into requests (RFC 9112), strictly: whatever another HTTP implementation
// might read differently is refused. Any split of the same bytes gives the same result.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace bifocal::server::http {

struct ParserLimits {
  size_t max_head_bytes = size_t{32} << 10;  // request line and headers
  size_t max_line_bytes = size_t{8} << 10;   // one line of it
  int max_headers = 100;
  uint64_t max_body_bytes = uint64_t{8} << 20;
};

// Why a request can't be read. After any of these the connection is closed.
struct ParseFailure {
  int status = 400;
  std::string_view reason;  // a literal
};

class RequestParser {
 public:
  enum class State {
    head,      // more bytes of the head are needed
    body,      // the head is complete; bytes of the body are needed
    complete,  // request() is whole
    failed,    // failure() says why
  };

  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();

  // Adds what the socket gave. Parses nothing yet.
  void append(std::string_view bytes) { buffer_ += bytes; }
  // Bytes given but not consumed: the rest of the current request or the beginning of the next.
  size_t buffered_bytes() const { return buffer_.size(); }

  // Parses up to the end of the head and no further, so that a request can be refused before its body is
  // read.
  State parse_head();
  // To be called in state `body`.
  State parse_body();
  // Forgets the completed request and keeps what was sent after it.
  void next();

  State state() const { return state_; }
  const ParseFailure& failure() const { return failure_; }
  Request& request() { return request_; }
  std::optional<uint64_t> content_length() const;  // of a request whose head is complete; none when chunked
  bool expects_continue() const { return expects_continue_; }

 private:
  class Body;  // the library's parser

  State fail(int status, std::string_view reason);
  bool scan_lines();
  State finish_head(std::string_view head);
  State check_framing();

  ParserLimits limits_;
  std::string buffer_;
  size_t scanned_ = 0;     // bytes of buffer_ already looked at for line ends
  size_t line_begin_ = 0;  // in buffer_
  int num_lines_ = 0;
  State state_ = State::head;
  ParseFailure failure_;
  Request request_;
  bool expects_continue_ = false;
  std::unique_ptr<Body> parser_;
};

}  // namespace bifocal::server::http
