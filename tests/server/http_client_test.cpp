#include "server/http/http_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "server/server_fixture.h"

namespace bifocal::server::http {
namespace {

TEST(ParseUrl, PartsAndMistakes) {
  const auto url = parse_url("http://localhost:8080/base/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->host, "localhost");
  EXPECT_EQ(url->port, 8080);
  EXPECT_EQ(url->prefix, "/base");
  EXPECT_EQ(parse_url("http://h")->port, 80);
  EXPECT_EQ(parse_url("http://[::1]:99")->host, "::1");
  EXPECT_EQ(parse_url("http://[::1]:99")->port, 99);
  for (const char* text :
       {"", "localhost:8080", "https://h", "http://", "http://:80", "http://h:", "http://h:0",
        "http://h:65536", "http://h:8x", "http://h:80/a b", "http://u@h", "http://[::1"}) {
    EXPECT_EQ(parse_url(text).status().code(), StatusCode::invalid_argument) << text;
  }
}

struct Parsed {
  Status status;
  ResponseParser parser;
  std::string body;
};

Parsed parse(std::string_view bytes, size_t step) {
  Parsed out;
  for (size_t at = 0; at < bytes.size() && out.status.ok(); at += step) {
    out.status = out.parser.feed(bytes.substr(at, step), out.body);
  }
  if (out.status.ok()) out.status = out.parser.finish();
  return out;
}

TEST(ResponseParser, TheSameAnswerHoweverItIsCut) {
  const std::string counted = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Thing:  a b \r\n\r\nhello";
  const std::string chunked =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 \r\nTransfer-Encoding: Chunked\r\nx-thing: a b\r\n\r\n"
      "3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n";
  const std::string until_close = "HTTP/1.0 200 OK\r\nX-Thing: a b\r\n\r\nhello";
  for (const std::string& bytes : {counted, chunked, until_close}) {
    for (size_t step = 1; step <= bytes.size(); ++step) {
      const Parsed got = parse(bytes, step);
      ASSERT_TRUE(got.status.ok()) << got.status.message() << "\n" << bytes;
      EXPECT_EQ(got.body, "hello");
      EXPECT_EQ(got.parser.header("x-thing"), "a b");
      EXPECT_EQ(got.parser.status(), bytes == chunked ? 503 : 200);
    }
    if (bytes == until_close) continue;
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_EQ(parse(bytes.substr(0, length), 7).status.code(), StatusCode::data_loss) << length;
    }
  }
}

TEST(ResponseParser, WhatIsNotHttpIsRefused) {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  for (const std::string& bytes :
       {std::string("SSH-2.0-x\r\n\r\n"), std::string("HTTP/2 200\r\n\r\n"),
        std::string("HTTP/1.1 2x0 OK\r\n\r\n"), head + "no colon\r\n\r\n",
        head + "Content-Length: -5\r\n\r\n", head + "Content-Length: 5 5\r\n\r\n",
        head + "Transfer-Encoding: gzip\r\n\r\n", head + "Transfer-Encoding: chunked\r\n\r\n-2\r\n",
        head + "Transfer-Encoding: chunked\r\n\r\n11112222333344445\r\n",
        head + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", std::string(70'000, 'a'),
        head + "Transfer-Encoding: chunked\r\n\r\n" + std::string(70'000, '1')}) {
    EXPECT_EQ(parse(bytes, 1000).status.code(), StatusCode::data_loss) << bytes.substr(0, 80);
  }
  ResponseParser small(ResponseLimits{64 << 10, 4});
  std::string body;
  EXPECT_EQ(small.feed(head + "\r\nhello", body).code(), StatusCode::data_loss);
}

TEST(EventSplitter, TheSameEventsHoweverTheyAreCut) {
  const std::string bytes =
      ": ping\n\ndata: one\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\nid: 4\ndata:\n\ndata: unfinished\n";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    EventSplitter splitter;
    std::vector<std::string> events;
    for (size_t at = 0; at < bytes.size(); at += step) {
      ASSERT_TRUE(splitter.feed(std::string_view(bytes).substr(at, step), events).ok());
    }
    EXPECT_EQ(events, (std::vector<std::string>{"one", "two\nlines", ""}));
  }
  EventSplitter small(10);
  std::vector<std::string> events;
  EXPECT_EQ(small.feed("data: 12345678", events).code(), StatusCode::data_loss);
}

std::string url_of(uint16_t port) {
  return "http://127.0.0.1:" + std::to_string(port);
}

TEST(HttpClient, FetchesAnswersAndErrors) {
  TestServer server;
  const auto client = HttpClient::create(url_of(server.port()));
  ASSERT_TRUE(client.ok()) << client.status().message();
  const auto health = (*client)->fetch({"GET", "/health", ""});
  ASSERT_TRUE(health.ok()) << health.status().message();
  EXPECT_EQ(health->status, 200);
  EXPECT_FALSE(health->request_id.empty());
  EXPECT_EQ((*client)->fetch({"GET", "/nowhere", ""})->status, 404);
  const auto tokens = (*client)->fetch(
      {"POST", "/generate", R"({"input_ids":[1,2],"sampling_params":{"max_new_tokens":3}})"});
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(tokens->status, 200);
  EXPECT_TRUE(parse_json(tokens->body).ok());
  EXPECT_EQ((*client)->open_exchanges(), 0);
}

struct StreamRecord {
  std::vector<std::string> events;
  std::vector<TimePoint> arrivals;
  std::optional<Expected<ClientResponse>> end;
};

TEST(HttpClient, ManyStreamsAtOnce) {
  constexpr size_t kStreams = 300;
  ServerOptions options = test_options();
  options.http.max_connections = 1024;
  TestServer server(options);
  const auto client = HttpClient::create(url_of(server.port()));
  ASSERT_TRUE(client.ok());
  std::mutex mutex;
  std::condition_variable changed;
  size_t open = kStreams;
  std::vector<StreamRecord> records(kStreams);
  for (StreamRecord& record : records) {
    (*client)->start(
        {"POST", "/generate", R"({"input_ids":[1,2],"stream":true,"sampling_params":{"max_new_tokens":5}})"},
        [&record](std::string_view data, TimePoint arrived) {
          record.events.emplace_back(data);
          record.arrivals.push_back(arrived);
        },
        [&](Expected<ClientResponse> end) {
          const std::lock_guard lock(mutex);
          record.end.emplace(std::move(end));
          --open;
          changed.notify_all();
        });
  }
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return open == 0; }));
  for (const StreamRecord& record : records) {
    ASSERT_TRUE(record.end->ok()) << record.end->status().message();
    EXPECT_EQ((*record.end)->status, 200);
    EXPECT_EQ((*record.end)->body, "");
    ASSERT_GE(record.events.size(), 2U);
    EXPECT_EQ(record.events.back(), "[DONE]");
    EXPECT_TRUE(std::is_sorted(record.arrivals.begin(), record.arrivals.end()));
  }
}

// Accepts one connection, sends `bytes`, and closes or waits for the client to leave.
class RawServer {
 public:
  RawServer(std::string bytes, bool close_after) : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this, bytes = std::move(bytes), close_after] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      char request[4096];
      ssize_t received = ::recv(fd, request, sizeof request, 0);  // nothing when the client left at once
      if (received > 0 && ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) received = 0;
      while (!close_after && received > 0) received = ::recv(fd, request, sizeof request, 0);
      ::close(fd);
    });
  }
  ~RawServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  uint16_t port() const { return port_; }

 private:
  int listener_;
  uint16_t port_ = 0;
  std::jthread thread_;
};

Status fetch_status(uint16_t port, ClientOptions options = {}) {
  const auto client = HttpClient::create(url_of(port), std::move(options));
  EXPECT_TRUE(client.ok());
  return (*client)->fetch({"GET", "/", ""}).status();
}

TEST(HttpClient, TellsWhatWentWrong) {
  uint16_t free_port = 0;
  {
    const RawServer answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true);
    EXPECT_TRUE(fetch_status(answers.port()).ok());
    free_port = answers.port();
  }
  EXPECT_EQ(fetch_status(free_port).code(), StatusCode::unavailable);
  const RawServer cut("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", true);
  EXPECT_EQ(fetch_status(cut.port()).code(), StatusCode::data_loss);
  const RawServer other("SSH-2.0-x\r\n\r\n", true);
  EXPECT_EQ(fetch_status(other.port()).code(), StatusCode::data_loss);
  const RawServer silent("HTTP/1.1 200 OK\r\n", false);
  ClientOptions impatient;
  impatient.timeout = std::chrono::milliseconds(50);
  EXPECT_EQ(fetch_status(silent.port(), impatient).code(), StatusCode::deadline_exceeded);
  EXPECT_EQ(HttpClient::create("http://no.such.host.invalid").status().code(), StatusCode::unavailable);
}

TEST(HttpClient, ItsEndEndsWhatRuns) {
  const RawServer silent("HTTP/1.1 200 OK\r\n", false);
  auto client = HttpClient::create(url_of(silent.port()));
  ASSERT_TRUE(client.ok());
  StatusCode code = StatusCode::ok;
  (*client)->start({"GET", "/", ""}, nullptr,
                   [&code](const Expected<ClientResponse>& end) { code = end.status().code(); });
  client->reset();
  EXPECT_EQ(code, StatusCode::cancelled);
}

}  // namespace
}  // namespace bifocal::server::http
