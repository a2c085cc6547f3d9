// An HTTP client for tools that talk to a server: any number of exchanges at once over one I/O thread, whole
// answers or streams of server-sent events. Plain HTTP; every exchange has a connection of its own, so that
// none waits for another's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "server/http/exchange.h"
#include "server/http/response_parser.h"

namespace bifocal::server::http {

// "http://127.0.0.1:8080/prefix" in parts. The port defaults to 80; an IPv6 address stands in brackets.
struct Url {
  std::string host;
  uint16_t port = 80;
  std::string prefix;  // "" or "/prefix", without a slash at the end
};
Expected<Url> parse_url(std::string_view text);

struct ClientOptions {
  std::vector<Header> headers;  // of every request, for example Authorization
  ResponseLimits limits;
  std::chrono::milliseconds timeout{600'000};  // of an exchange, from start() to its end
};

struct ClientRequest {
  std::string method = "GET";
  std::string path = "/";  // behind the URL's prefix
  std::string body;        // JSON, if any
};

struct ClientResponse {
  int status = 0;
  std::string body;  // empty for a stream whose events were handed out
  std::string request_id;
};

class HttpClient {
 public:
  // `arrived` is when the bytes that completed the event were read.
  using OnEvent = std::function<void(std::string_view data, TimePoint arrived)>;
  using OnDone = std::function<void(Expected<ClientResponse>)>;

  // Resolves the host. invalid_argument: not such a URL; unavailable: no such host.
  static Expected<std::unique_ptr<HttpClient>> create(std::string_view url, ClientOptions options = {});
  // Cuts what still runs: each on_done gets `cancelled`, and has returned before this does.
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Returns at once; any thread. The callbacks come on the I/O thread, must be quick and must not throw:
  // on_event for each event of a "text/event-stream" (without it, or of another type, the body is collected),
  // then on_done once. A status such as 404 is an answer; unavailable: nobody answers; deadline_exceeded: the
  // timeout; data_loss: not HTTP, or cut short.
  void start(ClientRequest request, OnEvent on_event, OnDone on_done);

  // One exchange from start to end, without events. Not on the I/O thread.
  Expected<ClientResponse> fetch(ClientRequest request);

  const std::string& url() const;
  int open_exchanges() const;

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bifocal::server::http
