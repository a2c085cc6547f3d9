// Clients that send or read slowly, or not at all.
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

using std::chrono::milliseconds;

const std::string kTokenize =
    "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

// A byte every 10 ms, for ever: what the server says before it closes. Bytes don't push a deadline back.
std::string drip(const ServerOptions& options, const std::string& begin) {
  TestServer server(options);
  Client client(server.port());
  client.send(begin);
  std::string answer;
  const auto patience = std::chrono::steady_clock::now() + kPatience;
  while (answer.empty() && client.send("a") && std::chrono::steady_clock::now() < patience) {
    answer = client.receive_some(1, milliseconds(10));
  }
  EXPECT_LT(std::chrono::steady_clock::now(), patience) << "never cut off";
  answer += client.receive_all();
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
  return answer.substr(0, 12);
}

TEST(SlowClients, HeadsHaveOneDeadline) {
  ServerOptions options = test_options();
  options.http.head_timeout = milliseconds(150);
  EXPECT_EQ(drip(options, "GET / HTTP/1.1\r\nX: "), "");
  EXPECT_EQ(drip(options, ""), "");
}

TEST(SlowClients, BodiesHaveOneDeadline) {
  ServerOptions options = test_options();
  options.http.body_total_timeout = milliseconds(150);
  EXPECT_EQ(drip(options, kTokenize + "Content-Length: 1000000\r\n\r\n"), "HTTP/1.1 408");
  EXPECT_EQ(drip(options, kTokenize + "Transfer-Encoding: chunked\r\n\r\n1000000;"), "HTTP/1.1 408");
}

TEST(SlowClients, SilenceInABodyIsCutOff) {
  ServerOptions options = test_options();
  options.http.body_idle_timeout = milliseconds(50);
  TestServer server(options);
  Client half(server.port());
  half.send(kTokenize + "Content-Length: 10\r\n\r\nab");
  EXPECT_EQ(half.receive_reply()->status, 408);
  EXPECT_TRUE(half.closed_by_server());
  Client waits(server.port());  // for ever, having been told to go on
  waits.send(kTokenize + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(waits.receive_reply()->status, 408);
}

TEST(SlowClients, ASilentConnectionIsClosed) {
  ServerOptions options = test_options();
  options.http.head_timeout = milliseconds(50);
  TestServer server(options);
  Client silent(server.port());
  EXPECT_TRUE(silent.closed_by_server());
}

TEST(SlowClients, AnIdleConnectionIsClosed) {
  ServerOptions options = test_options();
  options.http.keep_alive_timeout = milliseconds(50);
  TestServer server(options);
  Client idle(server.port());
  idle.send(make_request("GET", "/health"));
  EXPECT_EQ(idle.receive_reply()->status, 200);
  EXPECT_TRUE(idle.closed_by_server());
}

TEST(SlowClients, ManyDoNotStopOthers) {
  ServerOptions options = test_options();
  options.http.head_timeout = milliseconds(1500);
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 400; ++i) {
    slow.push_back(std::make_unique<Client>(server.port()));
    slow.back()->send("GET / HTTP/1.1\r\nX: y");
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(server.get("/health").status, 200);
  for (const auto& client : slow) EXPECT_TRUE(client->closed_by_server());
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
}

TEST(SlowClients, SilentStreamsArePinged) {
  ServerOptions options = test_options();
  options.http.exchange.ping_interval = milliseconds(30);
  TestServer server(options);
  server.engine.pause(true);
  Client client(server.port());
  client.send(make_request("POST", "/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":2})"));
  const std::string first = client.receive_until(": ping\n\n\r\n");
  EXPECT_TRUE(first.starts_with("HTTP/1.1 200 OK\r\n")) << first;
  EXPECT_TRUE(client.receive_until(": ping\n\n\r\n").ends_with(": ping\n\n\r\n"));
  server.engine.pause(false);
  EXPECT_NE(client.receive_until("0\r\n\r\n").find("data: [DONE]"), std::string::npos);
}

// The engine goes on until the buffers between it and the client are full, and some time after; then the
// request is ended.
TEST(SlowClients, ThoseThatNeverReadAreCutOffAndCostLittle) {
  constexpr int kClients = 24;
  ServerOptions options = test_options();
  options.http.stall_timeout = milliseconds(400);
  options.http.socket_send_buffer_bytes = 8 << 10;
  options.http.exchange.max_unsent_bytes = 32 << 10;
  FakeEngineOptions engine_options;
  engine_options.context_length = 1 << 30;  // it would go on for ever
  engine_options.step_time = std::chrono::microseconds(200);
  TestServer server(options, engine_options);
  server.get("/health");
  const int64_t before = resident_bytes();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(server.port(), 4096));
    clients.back()->send(
        make_request("POST", "/generate",
                     R"({"text":"a","stream":true,"sampling_params":{"max_new_tokens":1000000000}})"));
  }
  EXPECT_TRUE(eventually([&] { return server.engine.submitted() == kClients && server.engine.idle(); }));
  EXPECT_TRUE(eventually(
      [&] { return server.metric("bifocal_aborts_total{reason=\"client_stalled\"}") == kClients; }));
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
  if (!kSanitized) {
    EXPECT_LT(resident_bytes() - before, int64_t{32} << 20);
  }
}

TEST(SlowClients, ThoseThatReadLateGetEveryToken) {
  constexpr int kTokens = 2000;
  ServerOptions options = test_options();
  options.http.socket_send_buffer_bytes = 8 << 10;
  options.http.exchange.max_unsent_bytes = 16 << 10;
  TestServer server(options);
  server.engine.pause(true);
  Client client(server.port(), 4096);
  client.send(
      make_request("POST", "/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":2000,"seed":9})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  server.engine.run_steps(kTokens);
  const auto reply = client.receive_reply();
  ASSERT_TRUE(reply.has_value());
  std::string text, expected;
  for (const JsonValue& event : reply->json_events()) text += at(event, "choices", 0, "text").as_string();
  for (int i = 0; i < kTokens; ++i) expected += FakeEngine::letter(9, 0, i);
  EXPECT_EQ(text, expected);
  EXPECT_LT(reply->json_events().size(), size_t{kTokens});  // what found the buffers full came in groups
}

}  // namespace
}  // namespace bifocal::server
