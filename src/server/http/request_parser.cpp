#include "server/http/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "base/check.h"

namespace bifocal::server::http {
namespace beast = boost::beast;

namespace {

// A body sent in tiny chunks costs far more than its size; past this size such framing is refused.
constexpr uint64_t kChunkOverheadFreeBytes = uint64_t{100} << 10;
constexpr uint64_t kMaxChunkLineBytes = 8 << 10;

bool is_control(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u < 0x20 && u != '\t') || u == 0x7f;
}

ParseFailure describe(beast::error_code error) {
  using E = beast::http::error;
  if (error == E::body_limit) return {413, "the body is too large"};
  if (error == E::header_limit) return {431, "the head is too large"};
  if (error == E::bad_version) return {400, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  if (error == E::bad_method) return {400, "malformed method"};
  if (error == E::bad_target) return {400, "malformed request target"};
  if (error == E::bad_content_length || error == E::multiple_content_length) {
    return {400, "malformed Content-Length"};
  }
  if (error == E::bad_transfer_encoding) return {400, "malformed Transfer-Encoding"};
  if (error == E::bad_chunk || error == E::bad_chunk_extension) return {400, "malformed chunk"};
  return {400, "malformed HTTP request"};
}

}  // namespace

// Copies what Beast's parser finds into a Request.
class RequestParser::Body final : public beast::http::basic_parser<true> {
 public:
  Body(const ParserLimits& limits, Request& request) : request_(request) {
    eager(false);
    header_limit(static_cast<std::uint32_t>(limits.max_head_bytes));
    body_limit(limits.max_body_bytes);
  }

  bool chunks_too_small() const {
    const uint64_t total = chunk_overhead_bytes_ + request_.body.size();
    return total > kChunkOverheadFreeBytes && chunk_overhead_bytes_ * 5 > total * 4;
  }

 private:
  using ErrorCode = beast::error_code;
  using StringView = beast::string_view;
  static std::string_view view(StringView text) { return {text.data(), text.size()}; }

  void on_request_impl(beast::http::verb, StringView method, StringView target, int version,
                       ErrorCode&) override {
    const std::string_view whole = view(target);
    const size_t question = whole.find('?');
    request_.method = view(method);
    request_.path = whole.substr(0, question);
    request_.query = question == std::string_view::npos ? std::string_view() : whole.substr(question + 1);
    request_.version = version;
  }
  void on_response_impl(int, StringView, int, ErrorCode&) override {}
  void on_field_impl(beast::http::field, StringView name, StringView value, ErrorCode&) override {
    if (head_done_) return;  // trailers mean nothing to us and must not look like headers
    Header header{std::string(view(name)), std::string(view(value))};
    for (char& c : header.name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    request_.headers.push_back(std::move(header));
  }
  void on_header_impl(ErrorCode&) override { head_done_ = true; }
  void on_body_init_impl(boost::optional<std::uint64_t> const&, ErrorCode&) override {}
  std::size_t on_body_impl(StringView data, ErrorCode&) override {
    request_.body += view(data);
    return data.size();
  }
  void on_chunk_header_impl(std::uint64_t, StringView extensions, ErrorCode& error) override {
    chunk_overhead_bytes_ += 5 + extensions.size();  // at least a digit and two line ends
    for (char c : extensions) {
      if (is_control(c)) error = beast::http::error::bad_chunk_extension;
    }
  }
  std::size_t on_chunk_body_impl(std::uint64_t, StringView data, ErrorCode&) override {
    request_.body += view(data);
    return data.size();
  }
  void on_finish_impl(ErrorCode&) override {}

  Request& request_;
  bool head_done_ = false;
  uint64_t chunk_overhead_bytes_ = 0;
};

RequestParser::RequestParser(const ParserLimits& limits) : limits_(limits) {}
RequestParser::~RequestParser() = default;

RequestParser::State RequestParser::fail(int status, std::string_view reason) {
  failure_ = {status, reason};
  return state_ = State::failed;
}

void RequestParser::next() {
  BIFOCAL_CHECK(state_ == State::complete);
  parser_.reset();
  request_ = Request();
  expects_continue_ = false;
  scanned_ = line_begin_ = 0;
  num_lines_ = 0;
  state_ = State::head;
}

// Walks over complete lines as they arrive. True when the empty line that ends the head is the last one
// scanned.
bool RequestParser::scan_lines() {
  while (scanned_ < buffer_.size()) {
    const char c = buffer_[scanned_];
    if (c == '\n') {
      if (scanned_ == line_begin_ || buffer_[scanned_ - 1] != '\r') {
        fail(400, "a line of the head does not end in CR LF");
        return false;
      }
      const size_t length = scanned_ - 1 - line_begin_;
      ++scanned_;
      if (length == 0 && num_lines_ > 0) return true;
      // One empty line before the request line is tolerated (RFC 9112, 2.2).
      if (length == 0 && line_begin_ > 0) {
        fail(400, "empty lines where a request was expected");
        return false;
      }
      if (length > 0 && ++num_lines_ > limits_.max_headers + 1) {
        fail(431, "too many headers");
        return false;
      }
      line_begin_ = scanned_;
      continue;
    }
    if (scanned_ > line_begin_ && buffer_[scanned_ - 1] == '\r') {
      fail(400, "a line of the head does not end in CR LF");
      return false;
    }
    if (scanned_ == line_begin_ && num_lines_ > 0 && (c == ' ' || c == '\t')) {
      fail(400, "folded header lines are refused");
      return false;
    }
    if (c != '\r' && is_control(c)) {
      fail(400, "a control character in the head");
      return false;
    }
    if (c != '\r' && scanned_ - line_begin_ >= limits_.max_line_bytes) {
      fail(num_lines_ == 0 ? 414 : 431,
           num_lines_ == 0 ? "the request line is too long" : "a header is too long");
      return false;
    }
    if (++scanned_ > limits_.max_head_bytes) {
      fail(431, "the head is too large");
      return false;
    }
  }
  return false;
}

RequestParser::State RequestParser::parse_head() {
  if (state_ != State::head || !scan_lines()) return state_;
  const std::string_view whole(buffer_);
  const size_t begin = whole.starts_with("\r\n") ? 2 : 0;
  finish_head(whole.substr(begin, scanned_ - begin));
  buffer_.erase(0, scanned_);
  return state_;
}

RequestParser::State RequestParser::finish_head(std::string_view head) {
  parser_ = std::make_unique<Body>(limits_, request_);
  while (!parser_->is_header_done()) {
    beast::error_code error;
    const size_t used = parser_->put(boost::asio::buffer(head.data(), head.size()), error);
    if (error) {
      const ParseFailure failure = describe(error);
      return fail(failure.status, failure.reason);
    }
    head.remove_prefix(used);
  }
  return check_framing();
}

// The rules on framing that Beast leaves to its users.
RequestParser::State RequestParser::check_framing() {
  int lengths = 0, encodings = 0, hosts = 0;
  for (const Header& header : request_.headers) {
    if (header.name == "content-length") {
      ++lengths;
      if (header.value.find(',') != std::string::npos) return fail(400, "malformed Content-Length");
    } else if (header.name == "transfer-encoding") {
      ++encodings;
      if (!equals_ignoring_case(header.value, "chunked"))
        return fail(400, "Transfer-Encoding other than chunked");
    } else if (header.name == "host") {
      ++hosts;
    } else if (header.name == "expect") {
      if (!equals_ignoring_case(header.value, "100-continue")) return fail(417, "unknown expectation");
      expects_continue_ = request_.version >= 11;  // older clients can't read an interim answer
    }
  }
  if (lengths > 1) return fail(400, "more than one Content-Length");
  if (encodings > 1) return fail(400, "more than one Transfer-Encoding");
  if (lengths > 0 && encodings > 0) return fail(400, "both Content-Length and Transfer-Encoding");
  if (encodings > 0 && request_.version < 11) return fail(400, "Transfer-Encoding in HTTP/1.0");
  if (hosts > 1) return fail(400, "more than one Host");
  if (hosts == 0 && request_.version >= 11) return fail(400, "no Host");
  if (!request_.path.starts_with('/') && request_.path != "*") {
    return fail(400, "the request target must be a path");
  }
  for (char c : request_.path) {
    if (static_cast<unsigned char>(c) >= 0x7f) return fail(400, "malformed request target");
  }
  request_.keep_alive = parser_->keep_alive();
  return state_ = parser_->is_done() ? State::complete : State::body;
}

RequestParser::State RequestParser::parse_body() {
  size_t used = 0;
  while (state_ == State::body) {
    if (parser_->is_done()) {
      state_ = State::complete;
      break;
    }
    if (used == buffer_.size()) break;
    beast::error_code error;
    const size_t step =
        parser_->put(boost::asio::buffer(buffer_.data() + used, buffer_.size() - used), error);
    used += step;
    if (error == beast::http::error::need_more) {
      if (buffer_.size() - used > kMaxChunkLineBytes) fail(400, "a chunk header is too long");
      break;
    }
    if (error) {
      const ParseFailure failure = describe(error);
      fail(failure.status, failure.reason);
    } else if (parser_->chunks_too_small()) {
      fail(400, "the chunks of the body are too small");
    }
  }
  buffer_.erase(0, used);
  return state_;
}

std::optional<uint64_t> RequestParser::content_length() const {
  if (parser_ == nullptr) return std::nullopt;
  const auto length = parser_->content_length();
  return length ? std::optional<uint64_t>(*length) : std::nullopt;
}

}  // namespace bifocal::server::http
