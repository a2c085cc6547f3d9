// What HTTP/1.1 lets clients do with a connection.
#include <gtest/gtest.h>

#include <thread>
#include <tuple>

#include "base/hash.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

const std::string kTokenize =
    "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

TEST(Transport, KeepsConnectionsAndAnswersInOrder) {
  TestServer server;
  Client client(server.port());
  for (int i = 0; i < 3; ++i) {
    client.send(make_request("POST", "/tokenize",
                             R"({"prompt":")" + std::string(static_cast<size_t>(i + 1), 'a') + R"("})"));
    EXPECT_EQ(text_of(at(client.receive_reply()->json(), "count")), std::to_string(i + 1));
  }
  std::string pipelined;
  for (int i = 0; i < 20; ++i) {
    pipelined += make_request("POST", "/tokenize",
                              R"({"prompt":")" + std::string(static_cast<size_t>(i + 1), 'a') + R"("})");
    pipelined += make_request("GET", "/health");
  }
  client.send(pipelined);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(text_of(at(client.receive_reply()->json(), "count")), std::to_string(i + 1));
    EXPECT_EQ(client.receive_reply()->body, R"({"status":"ready"})");
  }
  client.send(make_request("GET", "/health", "", "Connection: close\r\n"));
  EXPECT_EQ(client.receive_reply()->header("connection"), "close");
  EXPECT_TRUE(client.closed_by_server());
}

// The second request arrives while the first is being answered.
TEST(Transport, PipelinesBehindAStream) {
  TestServer server;
  server.engine.pause(true);
  Client client(server.port());
  client.send(make_request("POST", "/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":2})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  client.send(make_request("POST", "/tokenize", R"({"prompt":"abc"})"));
  server.engine.run_steps(1);
  server.engine.pause(false);
  EXPECT_EQ(client.receive_reply()->events().back(), "[DONE]");
  EXPECT_EQ(text_of(at(client.receive_reply()->json(), "count")), "3");
}

TEST(Transport, RefusalsWithoutABodyKeepTheConnection) {
  TestServer server;
  Client client(server.port());
  for (const auto& [method, path, status] :
       {std::tuple("GET", "/nothing", 404), std::tuple("DELETE", "/health", 405),
        std::tuple("OPTIONS", "/generate", 204), std::tuple("GET", "/v1/models/other", 404)}) {
    client.send(make_request(method, path));
    const auto refused = client.receive_reply();
    ASSERT_TRUE(refused.has_value()) << path;
    EXPECT_EQ(refused->status, status) << path;
    EXPECT_EQ(refused->header("connection"), "keep-alive") << path;
  }
  client.send(make_request("GET", "/nothing", "", "Connection: close\r\n"));
  EXPECT_EQ(client.receive_reply()->header("connection"), "close");
  EXPECT_TRUE(client.closed_by_server());
}

TEST(Transport, RequestIdsDiffer) {
  TestServer server;
  const std::string a = server.get("/health").header("x-request-id");
  EXPECT_TRUE(a.starts_with("req-"));
  EXPECT_NE(a, server.get("/health").header("x-request-id"));
}

TEST(Transport, HeadIsGetWithoutTheBody) {
  TestServer server;
  Client client(server.port());
  for (const std::string_view path : {"/health", "/ready", "/v1/models", "/v1/models/fake"}) {
    client.send(make_request("GET", path));
    const auto get = client.receive_reply();
    client.send(make_request("HEAD", path) + make_request("GET", "/health"));
    const auto head = client.receive_reply(kPatience, true);
    EXPECT_EQ(head->status, get->status) << path;
    EXPECT_EQ(head->header("content-length"), get->header("content-length")) << path;
    EXPECT_EQ(client.receive_reply()->body, R"({"status":"ready"})") << path;  // nothing lay in between
  }
}

TEST(Transport, OldProtocol) {
  TestServer server;
  Client plain(server.port());
  plain.send("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_EQ(plain.receive_reply()->status, 200);
  EXPECT_TRUE(plain.closed_by_server());
  Client stream(server.port());
  const std::string body = R"({"prompt":"a","stream":true,"max_tokens":3})";
  stream.send("POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string all = stream.receive_all();
  EXPECT_EQ(all.find("chunked"), std::string::npos);
  EXPECT_TRUE(all.ends_with("data: [DONE]\n\n"));
}

TEST(Transport, ChunkedBodies) {
  TestServer server;
  Client client(server.port());
  client.send(kTokenize + "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"promp\r\n7\r\nt\":\"a\"}\r\n0\r\n\r\n");
  EXPECT_EQ(text_of(at(client.receive_reply()->json(), "count")), "1");
}

TEST(Transport, ClientsThatAskFirstAreToldToGoOn) {
  TestServer server;
  const std::string ask = "Content-Length: 14\r\nExpect: 100-continue\r\n\r\n";
  const std::string body = R"({"prompt":"a"})";
  Client asks(server.port());
  asks.send(kTokenize + ask);
  EXPECT_EQ(asks.receive_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  asks.send(body);
  EXPECT_EQ(asks.receive_reply()->status, 200);
  Client does_not_wait(server.port());
  does_not_wait.send(kTokenize + ask + body);
  EXPECT_TRUE(does_not_wait.receive_some().starts_with("HTTP/1.1 200"));
  // Refused without asking for the body.
  Client too_large(server.port());
  too_large.send(kTokenize + "Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(too_large.receive_all().starts_with("HTTP/1.1 413"));
  Client nowhere(server.port());
  nowhere.send("POST /nothing HTTP/1.1\r\nHost: localhost\r\n" + ask);
  EXPECT_TRUE(nowhere.receive_all().starts_with("HTTP/1.1 404"));
}

// HTTP/1.0 has no interim answers (RFC 9110, 10.1.1): the first one is that the body didn't come.
TEST(Transport, OldClientsAreNotToldToGoOn) {
  ServerOptions options = test_options();
  options.http.body_idle_timeout = std::chrono::milliseconds(50);
  TestServer server(options);
  Client old(server.port());
  old.send(
      "POST /tokenize HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 14\r\nExpect: "
      "100-continue\r\n\r\n");
  EXPECT_TRUE(old.receive_all().starts_with("HTTP/1.1 408"));
}

TEST(Transport, ConcurrentClientsEachGetTheirOwn) {
  FakeEngineOptions engine_options;
  engine_options.step_time = std::chrono::microseconds(200);
  TestServer server(test_options(), engine_options);
  std::atomic<int> wrong{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      SplitMix64 random(static_cast<uint64_t>(t));
      for (int i = 0; i < 12; ++i) {
        const auto seed = static_cast<int64_t>(random.below(1'000'000));
        const int64_t n = 1 + static_cast<int64_t>(random.below(60));
        const bool stream = random.below(2) == 0;
        Client client(server.port());
        client.send(make_request("POST", "/v1/completions",
                                 R"({"prompt":"a","seed":)" + std::to_string(seed) + R"(,"max_tokens":)" +
                                     std::to_string(n) + R"(,"stream":)" + (stream ? "true}" : "false}")));
        if (random.below(4) == 0) continue;  // leaves
        const auto reply = client.receive_reply(std::chrono::seconds(60));
        std::string text, expected;
        if (reply && stream) {
          for (const JsonValue& event : reply->json_events())
            text += at(event, "choices", 0, "text").as_string();
        } else if (reply) {
          text = text_of(at(reply->json(), "choices", 0, "text"));
        }
        for (int64_t k = 0; k < n; ++k) expected += FakeEngine::letter(static_cast<uint64_t>(seed), 0, k);
        if (text != expected) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
}

}  // namespace
}  // namespace bifocal::server
