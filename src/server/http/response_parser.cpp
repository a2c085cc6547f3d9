#include "server/http/response_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace bifocal::server::http {
namespace {

constexpr size_t kMaxLineBytes = 8 << 10;  // of chunk framing and trailers

Status no_http(std::string_view what) {
  return data_loss(fmt::format("the answer is no HTTP/1.1: {}", what));
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// Digits only: no sign, no spaces.
bool parse_unsigned(std::string_view text, int base, uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return !text.empty() && error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string_view ResponseParser::header(std::string_view lower_case_name) const {
  for (const Header& header : headers_) {
    if (header.name == lower_case_name) return header.value;
  }
  return "";
}

Status ResponseParser::feed(std::string_view bytes, std::string& body) {
  buffer_.erase(0, used_);
  used_ = 0;
  buffer_ += bytes;
  std::string_view line;
  for (;;) {
    const uint64_t buffered = buffer_.size() - used_;
    switch (state_) {
      case State::head: {
        const size_t end = buffer_.find("\r\n\r\n", used_);
        const size_t head_bytes = end == std::string::npos ? buffered : end - used_;
        if (head_bytes > limits_.max_head_bytes) return no_http("its head is too long");
        if (end == std::string::npos) return {};
        BIFOCAL_RETURN_IF_ERROR(parse_head(std::string_view(buffer_).substr(used_, head_bytes)));
        used_ = end + 4;
        break;
      }
      case State::counted:
        BIFOCAL_RETURN_IF_ERROR(take_body(left_, body));
        if (left_ > 0) return {};
        state_ = State::complete;
        break;
      case State::until_close:
        return take_body(buffered, body);
      case State::chunk_size:
        if (!take_line(line)) return buffered > kMaxLineBytes ? no_http("a chunk's size") : Status();
        BIFOCAL_RETURN_IF_ERROR(parse_chunk_size(line));
        break;
      case State::chunk:
        BIFOCAL_RETURN_IF_ERROR(take_body(left_, body));
        if (left_ > 0) return {};
        state_ = State::chunk_end;
        break;
      case State::chunk_end:
        if (buffered < 2) return {};
        if (buffer_.compare(used_, 2, "\r\n") != 0) return no_http("a chunk is longer than its size");
        used_ += 2;
        state_ = State::chunk_size;
        break;
      case State::trailers:
        if (!take_line(line)) return buffered > kMaxLineBytes ? no_http("a trailer") : Status();
        if (line.empty()) state_ = State::complete;
        break;
      case State::complete:
        return {};
    }
  }
}

Status ResponseParser::finish() {
  if (state_ == State::until_close) state_ = State::complete;
  if (state_ == State::complete) return {};
  return data_loss(state_ == State::head ? "the connection ended before an answer came"
                                         : "the connection ended within the answer");
}

Status ResponseParser::parse_head(std::string_view head) {
  const size_t end = head.find("\r\n");
  const std::string_view start = head.substr(0, end);
  uint64_t status = 0;
  const bool sound = start.size() >= 12 && start.starts_with("HTTP/1.") && start[8] == ' ' &&
                     (start.size() == 12 || start[12] == ' ') &&
                     parse_unsigned(start.substr(9, 3), 10, status) && status >= 100;
  if (!sound) return no_http("its first line");
  headers_.clear();
  head.remove_prefix(end == std::string_view::npos ? head.size() : end + 2);
  while (!head.empty()) {
    const size_t line_end = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, line_end);
    head.remove_prefix(std::min(head.size(), line_end + 2));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return no_http("a header without a name");
    headers_.push_back({lower_case(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
  }
  if (status < 200) return {};  // "100 Continue": the answer follows
  status_code_ = static_cast<int>(status);
  return choose_framing();
}

Status ResponseParser::choose_framing() {
  if (const std::string_view coding = header("transfer-encoding"); !coding.empty()) {
    if (lower_case(coding) != "chunked") return no_http("a transfer coding other than chunked");
    state_ = State::chunk_size;
    return {};
  }
  state_ = State::until_close;
  if (const std::string_view length = header("content-length"); !length.empty()) {
    if (!parse_unsigned(length, 10, left_)) return no_http("its Content-Length");
    state_ = State::counted;
  }
  if (status_code_ == 204 || status_code_ == 304) state_ = State::complete;
  return {};
}

Status ResponseParser::parse_chunk_size(std::string_view line) {
  if (!parse_unsigned(trim(line.substr(0, line.find(';'))), 16, left_)) return no_http("a chunk's size");
  state_ = left_ == 0 ? State::trailers : State::chunk;
  return {};
}

Status ResponseParser::take_body(uint64_t count, std::string& body) {
  const size_t taken = static_cast<size_t>(std::min<uint64_t>(count, buffer_.size() - used_));
  if (body_bytes_ + taken > limits_.max_body_bytes) {
    return data_loss(fmt::format("the answer has more than {} bytes", limits_.max_body_bytes));
  }
  body.append(buffer_, used_, taken);
  body_bytes_ += taken;
  used_ += taken;
  if (state_ != State::until_close) left_ -= taken;
  return {};
}

bool ResponseParser::take_line(std::string_view& line) {
  const size_t end = buffer_.find("\r\n", used_);
  if (end == std::string::npos) return false;
  line = std::string_view(buffer_).substr(used_, end - used_);
  used_ = end + 2;
  return true;
}

Status EventSplitter::feed(std::string_view bytes, std::vector<std::string>& events) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (line_.size() + data_.size() > max_event_bytes_) {
      return data_loss(fmt::format("an event has more than {} bytes", max_event_bytes_));
    }
    if (end == std::string_view::npos) return {};
    bytes.remove_prefix(end + 1);
    std::string_view line = line_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) {
      if (has_data_) events.push_back(std::move(data_));
      data_.clear();
      has_data_ = false;
    } else if (line.starts_with("data:")) {
      line.remove_prefix(5);
      if (line.starts_with(' ')) line.remove_prefix(1);
      if (has_data_) data_ += '\n';
      data_ += line;
      has_data_ = true;
    }  // other fields and comments (pings) mean nothing here
    line_.clear();
  }
  return {};
}

}  // namespace bifocal::server::http
