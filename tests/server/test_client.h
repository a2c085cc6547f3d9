// A raw HTTP client for the tests: it can send anything, and leave at any byte.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace bifocal::server {

// How long tests wait for what must happen: long enough for a machine that is busy with something else.
inline constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(60);

struct Reply {
  int status = 0;
  std::string head;
  std::string body;                                 // chunks joined
  std::string header(std::string_view name) const;  // "" when absent
  JsonValue json() const;                           // null when the body is no JSON
  std::vector<std::string> events() const;          // of a stream: what follows "data: "
  std::vector<JsonValue> json_events() const;       // those that are JSON
};

class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer_bytes = 0);
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return fd_ >= 0; }
  // False when the server closed.
  bool send(std::string_view bytes);
  // Up to max_bytes as they come; "" at the end of the connection or after the timeout.
  std::string receive_some(size_t max_bytes = 65536, std::chrono::milliseconds timeout = kPatience);
  // Until what came ends in `end`; shorter at the end of the connection or after the timeout.
  std::string receive_until(std::string_view end, std::chrono::milliseconds timeout = kPatience);
  // Exactly so many bytes; fewer at the end of the connection or after the timeout.
  std::string receive_bytes(size_t count, std::chrono::milliseconds timeout = kPatience);
  // Everything until the server closes.
  std::string receive_all(std::chrono::milliseconds timeout = kPatience);
  // One answer, interim ones (100) skipped; nullopt when the connection ends or the timeout passes before it
  // is whole.
  std::optional<Reply> receive_reply(std::chrono::milliseconds timeout = kPatience,
                                     bool head_request = false);
  void finish_sending();  // the server sees the end of what was sent
  bool closed_by_server(std::chrono::milliseconds timeout = kPatience);
  void close(bool reset = false);

 private:
  int fd_ = -1;
  std::string buffered_;
};

// "POST /x HTTP/1.1\r\nHost: localhost\r\n..." with Content-Length, and Content-Type JSON when there is a
// body.
std::string make_request(std::string_view method, std::string_view path, std::string_view body = "",
                         std::string_view extra_headers = "");

// One request on a connection of its own.
std::optional<Reply> fetch(uint16_t port, std::string_view method, std::string_view path,
                           std::string_view body = "", std::string_view extra_headers = "");

}  // namespace bifocal::server
