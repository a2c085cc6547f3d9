#include "server/http/http_client.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <future>
#include <thread>
#include <unordered_set>

namespace bifocal::server::http {
namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

// As in http_server.cpp: the outermost block of a coroutine declares a variable, and no condition contains a
// co_await (GCC bug 106188).

namespace {

constexpr size_t kReadBytes = size_t{16} << 10;

auto catch_error(ErrorCode& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

// One request and its answer. Touched by the I/O thread only.
class ClientExchange : public std::enable_shared_from_this<ClientExchange> {
 public:
  ClientExchange(asio::io_context& io, const ResponseLimits& limits, std::string bytes,
                 HttpClient::OnEvent on_event, HttpClient::OnDone on_done)
      : socket_(io),
        timer_(io),
        parser_(limits),
        bytes_(std::move(bytes)),
        on_event_(std::move(on_event)),
        on_done_(std::move(on_done)) {}

  asio::awaitable<void> run(tcp::resolver::results_type endpoints, Clock::time_point deadline) {
    Status status;
    watch_deadline(deadline);
    try {
      if (interrupted_.ok()) {
        status = co_await transfer(std::move(endpoints));
      }
    } catch (const std::exception& e) {  // out of memory
      status = internal_error(e.what());
    }
    timer_.cancel();
    ErrorCode ignored;
    socket_.close(ignored);
    if (!interrupted_.ok()) status = interrupted_;
    // An answer that is whole counts, whatever happened to the connection.
    if (!parser_.complete()) end_ = status;
  }

  void report() {
    if (!end_.ok()) return on_done_(end_);
    on_done_(ClientResponse{parser_.status(), std::move(body_), std::string(parser_.header("x-request-id"))});
  }

  void interrupt(Status why) {
    if (interrupted_.ok()) interrupted_ = std::move(why);
    ErrorCode ignored;
    socket_.close(ignored);
  }

 private:
  void watch_deadline(Clock::time_point deadline) {
    timer_.expires_at(deadline);
    timer_.async_wait([weak = weak_from_this()](ErrorCode error) {
      const auto self = weak.lock();
      if (!error && self) {
        self->interrupt(Status(StatusCode::deadline_exceeded, "the server didn't answer in time"));
      }
    });
  }

  asio::awaitable<Status> transfer(tcp::resolver::results_type endpoints) {
    ErrorCode error;
    co_await asio::async_connect(socket_, endpoints, catch_error(error));
    if (error) co_return unavailable(fmt::format("can't connect: {}", error.message()));
    ErrorCode ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    // A server may answer, and close, before it has read everything: its answer is worth more than the error.
    co_await asio::async_write(socket_, asio::buffer(bytes_), catch_error(ignored));
    while (!parser_.complete() && !error) {
      const size_t n = co_await socket_.async_read_some(asio::buffer(scratch_), catch_error(error));
      const auto arrived = Clock::now();
      Status status = parser_.feed({scratch_.data(), n}, body_);
      if (status.ok()) status = hand_out_events(arrived);
      if (!status.ok()) co_return status;
    }
    co_return parser_.finish();
  }

  Status hand_out_events(TimePoint arrived) {
    if (!on_event_ || body_.empty() || !parser_.header("content-type").starts_with("text/event-stream")) {
      return {};
    }
    events_.clear();
    BIFOCAL_RETURN_IF_ERROR(splitter_.feed(body_, events_));
    body_.clear();
    for (const std::string& event : events_) on_event_(event, arrived);
    return {};
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  ResponseParser parser_;
  EventSplitter splitter_;
  std::string bytes_;
  std::string body_;
  std::vector<std::string> events_;
  std::array<char, kReadBytes> scratch_;
  HttpClient::OnEvent on_event_;
  HttpClient::OnDone on_done_;
  Status interrupted_;  // ok: nobody did
  Status end_;
};

}  // namespace

Expected<Url> parse_url(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return invalid_argument(
        fmt::format("URL \"{}\": {}; expected for example http://127.0.0.1:8080", text, why));
  };
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) return bad("https is not spoken");
  if (!rest.starts_with("http://")) return bad("it doesn't begin with http://");
  rest.remove_prefix(7);
  const std::string_view authority = rest.substr(0, rest.find('/'));
  url.prefix = rest.substr(authority.size());
  while (url.prefix.ends_with('/')) url.prefix.pop_back();
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad("a bracket is open");
    url.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    url.host = authority.substr(0, authority.find(':'));
    port = authority.substr(url.host.size());
  }
  for (const char c : text) {
    if (c <= ' ' || c == 0x7f || c == '?' || c == '#' || c == '@')
      return bad("a character has no place in it");
  }
  if (url.host.empty()) return bad("the host is missing");
  if (port.empty()) return url;
  int number = 0;
  const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), number);
  if (port[0] != ':' || error != std::errc() || end != port.data() + port.size() || number < 1 ||
      number > 65535) {
    return bad("the port is no number from 1 to 65535");
  }
  url.port = static_cast<uint16_t>(number);
  return url;
}

class HttpClient::Impl {
 public:
  Impl(Url url, ClientOptions options) : url_(std::move(url)), options_(std::move(options)) {
    const bool is_v6 = url_.host.find(':') != std::string::npos;
    authority_ = fmt::format("{}:{}", is_v6 ? "[" + url_.host + "]" : url_.host, url_.port);
    base_ = "http://" + authority_ + url_.prefix;
  }

  ~Impl() {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      stopping_ = true;
      for (ClientExchange* exchange : exchanges_) exchange->interrupt(kStopped);
      work_.reset();
    });
    thread_.join();
  }

  Status resolve() {
    ErrorCode error;
    tcp::resolver resolver(io_);
    endpoints_ = resolver.resolve(url_.host, std::to_string(url_.port), error);
    if (error || endpoints_.empty())
      return unavailable(fmt::format("{}: {}", base_, error ? error.message() : "no address"));
    thread_ = std::thread([this] { io_.run(); });
    return {};
  }

  void start(ClientRequest request, OnEvent on_event, OnDone on_done) {
    const auto deadline = Clock::now() + options_.timeout;
    ++open_;
    auto exchange = std::make_shared<ClientExchange>(io_, options_.limits, render(request),
                                                     std::move(on_event), std::move(on_done));
    asio::co_spawn(io_, serve(std::move(exchange), deadline), asio::detached);
  }

  const std::string& base() const { return base_; }
  int open_exchanges() const { return open_; }

 private:
  std::string render(const ClientRequest& request) const {
    std::string out = fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: */*\r\n",
                                  request.method, url_.prefix, request.path, authority_);
    for (const Header& header : options_.headers) out += fmt::format("{}: {}\r\n", header.name, header.value);
    if (!request.body.empty() || request.method != "GET") {
      out += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", request.body.size());
    }
    return out + "\r\n" + request.body;
  }

  asio::awaitable<void> serve(std::shared_ptr<ClientExchange> exchange, Clock::time_point deadline) {
    ClientExchange* const key = exchange.get();
    if (stopping_) exchange->interrupt(kStopped);
    exchanges_.insert(key);
    co_await exchange->run(endpoints_, deadline);
    exchanges_.erase(key);
    --open_;
    exchange->report();
  }

  const Status kStopped{StatusCode::cancelled, "the client was closed"};
  Url url_;
  ClientOptions options_;
  std::string authority_;
  std::string base_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  tcp::resolver::results_type endpoints_;
  std::unordered_set<ClientExchange*> exchanges_;
  std::atomic<int> open_{0};
  bool stopping_ = false;
  std::thread thread_;
};

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;

Expected<std::unique_ptr<HttpClient>> HttpClient::create(std::string_view url, ClientOptions options) {
  BIFOCAL_ASSIGN_OR_RETURN(Url parts, parse_url(url));
  auto impl = std::make_unique<Impl>(std::move(parts), std::move(options));
  BIFOCAL_RETURN_IF_ERROR(impl->resolve());
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(impl)));
}

void HttpClient::start(ClientRequest request, OnEvent on_event, OnDone on_done) {
  impl_->start(std::move(request), std::move(on_event), std::move(on_done));
}

Expected<ClientResponse> HttpClient::fetch(ClientRequest request) {
  auto answer = std::make_shared<std::promise<Expected<ClientResponse>>>();
  auto future = answer->get_future();
  start(std::move(request), nullptr,
        [answer](Expected<ClientResponse> response) { answer->set_value(std::move(response)); });
  return future.get();
}

const std::string& HttpClient::url() const {
  return impl_->base();
}
int HttpClient::open_exchanges() const {
  return impl_->open_exchanges();
}

}  // namespace bifocal::server::http
