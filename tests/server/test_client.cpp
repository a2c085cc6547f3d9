#include "server/test_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "server/http/message.h"

namespace bifocal::server {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

std::string Reply::header(std::string_view name) const {
  for (size_t at = 0; at < head.size();) {
    const size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view line = std::string_view(head).substr(at, end - at);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && http::equals_ignoring_case(line.substr(0, colon), name)) {
      return std::string(http::trim(line.substr(colon + 1)));
    }
    at = end + 2;
  }
  return "";
}

JsonValue Reply::json() const {
  auto value = parse_json(body);
  return value.ok() ? *value : JsonValue();
}

std::vector<std::string> Reply::events() const {
  std::vector<std::string> out;
  for (size_t at = 0; at < body.size();) {
    const size_t end = std::min(body.find("\n\n", at), body.size());
    const std::string_view event = std::string_view(body).substr(at, end - at);
    if (event.starts_with("data: ")) out.emplace_back(event.substr(6));
    at = end + 2;
  }
  return out;
}

std::vector<JsonValue> Reply::json_events() const {
  std::vector<JsonValue> out;
  for (const std::string& event : events()) {
    if (auto value = parse_json(event); value.ok()) out.push_back(*value);
  }
  return out;
}

Client::Client(uint16_t port, int receive_buffer_bytes) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer_bytes > 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) close();
}

void Client::close(bool reset) {
  if (fd_ < 0) return;
  if (reset) {
    const linger option{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
  }
  ::close(fd_);
  fd_ = -1;
}

void Client::finish_sending() {
  ::shutdown(fd_, SHUT_WR);
}

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string Client::receive_some(size_t max_bytes, milliseconds timeout) {
  if (fd_ < 0) return "";
  pollfd waiting{fd_, POLLIN, 0};
  if (::poll(&waiting, 1, static_cast<int>(timeout.count())) <= 0) return "";
  std::string out(max_bytes, '\0');
  const ssize_t n = ::recv(fd_, out.data(), out.size(), 0);
  out.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return out;
}

std::string Client::receive_until(std::string_view end, milliseconds timeout) {
  std::string out;
  while (!out.ends_with(end)) {
    const std::string piece = receive_some(65536, timeout);
    if (piece.empty()) break;
    out += piece;
  }
  return out;
}

std::string Client::receive_bytes(size_t count, milliseconds timeout) {
  std::string out;
  while (out.size() < count) {
    const std::string piece = receive_some(count - out.size(), timeout);
    if (piece.empty()) break;
    out += piece;
  }
  return out;
}

std::string Client::receive_all(milliseconds timeout) {
  std::string out = std::move(buffered_);
  buffered_.clear();
  const auto until = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
    if (left.count() <= 0) return out;
    const std::string piece = receive_some(65536, left);
    if (piece.empty()) return out;
    out += piece;
  }
}

bool Client::closed_by_server(milliseconds timeout) {
  pollfd waiting{fd_, POLLIN, 0};
  const auto until = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return false;
    char byte[4096];
    if (::recv(fd_, byte, sizeof(byte), 0) <= 0) return true;
  }
}

namespace {

// Joins the chunks at the front of `raw`; the number of bytes they take, or nullopt while they are not whole.
std::optional<size_t> join_chunks(std::string_view raw, std::string& body) {
  size_t at = 0;
  for (;;) {
    const size_t line_end = raw.find("\r\n", at);
    if (line_end == std::string_view::npos) return std::nullopt;
    const size_t size = std::stoul(std::string(raw.substr(at, line_end - at)), nullptr, 16);
    at = line_end + 2;
    if (raw.size() < at + size + 2) return std::nullopt;
    body += raw.substr(at, size);
    at += size + 2;
    if (size == 0) return at;
  }
}

}  // namespace

std::optional<Reply> Client::receive_reply(milliseconds timeout, bool head_request) {
  const auto until = Clock::now() + timeout;
  for (;;) {
    Reply reply;
    const size_t head_end = buffered_.find("\r\n\r\n");
    if (head_end != std::string::npos && buffered_.size() >= 12) {
      reply.head = buffered_.substr(0, head_end);
      reply.status = std::stoi(reply.head.substr(9, 3));
      const size_t body_begin = head_end + 4;
      const std::string length = reply.header("content-length");
      std::optional<size_t> used;
      if (reply.status == 100) {
        buffered_.erase(0, body_begin);
        continue;
      }
      if (head_request || reply.status == 204) {
        used = 0;
      } else if (!length.empty()) {
        const size_t size = std::stoul(length);
        if (buffered_.size() >= body_begin + size) {
          reply.body = buffered_.substr(body_begin, size);
          used = size;
        }
      } else {
        used = join_chunks(std::string_view(buffered_).substr(body_begin), reply.body);
      }
      if (used) {
        buffered_.erase(0, body_begin + *used);
        return reply;
      }
    }
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
    if (left.count() <= 0) return std::nullopt;
    const std::string piece = receive_some(65536, left);
    if (piece.empty()) return std::nullopt;
    buffered_ += piece;
  }
}

std::string make_request(std::string_view method, std::string_view path, std::string_view body,
                         std::string_view extra_headers) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n", method, path);
  if (!body.empty())
    out += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  out += extra_headers;
  out += "\r\n";
  out += body;
  return out;
}

std::optional<Reply> fetch(uint16_t port, std::string_view method, std::string_view path,
                           std::string_view body, std::string_view extra_headers) {
  Client client(port);
  if (!client.connected()) return std::nullopt;
  client.send(make_request(method, path, body, extra_headers));  // an early refusal may end it midway
  return client.receive_reply(std::chrono::seconds(20), method == "HEAD");
}

}  // namespace bifocal::server
