// Starting, serving, overload, deadlines, draining, failing.
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

using std::chrono::milliseconds;

TEST(Lifecycle, AnswersProbesWhileTheModelLoads) {
  FakeEngine engine;
  auto server = Server::create(test_options());
  ASSERT_TRUE(server.ok());
  (*server)->start();
  const uint16_t port = (*server)->port();
  EXPECT_EQ((*server)->url(), "http://127.0.0.1:" + std::to_string(port));
  EXPECT_EQ(fetch(port, "GET", "/health")->body, R"({"status":"starting"})");
  EXPECT_EQ(fetch(port, "GET", "/health")->status, 200);
  EXPECT_EQ(fetch(port, "GET", "/ready")->status, 503);
  EXPECT_EQ(fetch(port, "GET", "/metrics")->status, 200);
  for (const std::string_view path :
       {"/v1/models", "/get_model_info", "/get_server_info", "/flush_cache", "/health_generate"}) {
    const auto reply = fetch(port, "GET", path);
    EXPECT_EQ(reply->status, 503) << path;
    EXPECT_EQ(reply->header("retry-after"), "5");
    EXPECT_EQ(text_of(at(reply->json(), "error", "code")), "starting");
  }
  EXPECT_EQ(fetch(port, "POST", "/v1/completions", "{}")->status, 503);
  (*server)->set_ready(test_context(engine));
  EXPECT_EQ(fetch(port, "GET", "/ready")->status, 200);
  EXPECT_EQ(fetch(port, "GET", "/v1/models")->status, 200);
}

TEST(Lifecycle, ATakenPortIsSaidPlainly) {
  auto first = Server::create(test_options());
  ASSERT_TRUE(first.ok());
  ServerOptions options = test_options();
  options.http.port = (*first)->port();
  const auto second = Server::create(options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::unavailable);
  EXPECT_NE(second.status().message().find(std::to_string(options.http.port)), std::string::npos);
  options.http.host = "127.nonsense.invalid";
  EXPECT_EQ(Server::create(options).status().code(), StatusCode::invalid_argument);
}

TEST(Lifecycle, UnknownOptionsAreRefused) {
  ServerOptions options = test_options();
  options.reasoning_parser = "nonsense";
  EXPECT_EQ(Server::create(options).status().code(), StatusCode::invalid_argument);
  options = test_options();
  options.stream_interval = 0;
  EXPECT_FALSE(Server::create(options).ok());
  for (const double timeout_s : {0.0, -1.0, 1e300, std::nan("")}) {
    options = test_options();
    options.request_timeout_s = timeout_s;
    EXPECT_FALSE(Server::create(options).ok()) << timeout_s;
  }
  EXPECT_FALSE(parse_sampling_defaults("other").ok());
}

TEST(Lifecycle, AFullQueueSaysWhenToComeBack) {
  FakeEngineOptions engine;
  engine.max_running = 1;
  engine.max_queued = 1;
  TestServer server(test_options(), engine);
  server.engine.pause(true);
  Client first(server.port());
  Client second(server.port());
  first.send(make_request("POST", "/generate", R"({"text":"a"})"));
  second.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 2; }));
  const Reply refused = server.post("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(text_of(at(refused.json(), "error", "type")), "overloaded");
  EXPECT_EQ(text_of(at(refused.json(), "error", "code")), "queue_full");
  EXPECT_GE(std::stoi(refused.header("retry-after")), 1);
  EXPECT_EQ(server.metric("bifocal_rejected_requests_total{reason=\"queue_full\"}"), 1);
  server.engine.pause(false);
  EXPECT_EQ(first.receive_reply()->status, 200);
  EXPECT_EQ(second.receive_reply()->status, 200);
}

TEST(Lifecycle, ABatchThatDoesNotFitLeavesNothingBehind) {
  FakeEngineOptions engine;
  engine.max_running = 2;
  engine.max_queued = 1;
  TestServer server(test_options(), engine);
  server.engine.pause(true);
  EXPECT_EQ(server.post("/generate", R"({"text":["a","b","c","d","e"]})").status, 429);
  EXPECT_EQ(server.post("/generate", R"({"text":["a","b","c","d","e"],"stream":true})").status, 429);
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
  server.engine.pause(false);
  EXPECT_EQ(server.post("/generate", R"({"text":["a","b","c"]})").status, 200);
}

TEST(Lifecycle, ADeadlineBeforeTheFirstTokenIs504) {
  TestServer server;
  server.engine.pause(true);
  for (const std::string_view stream : {"false", "true"}) {
    const Reply reply = server.post("/v1/completions",
                                    R"({"prompt":"a","timeout_ms":40,"stream":)" + std::string(stream) + "}");
    EXPECT_EQ(reply.status, 504);
    EXPECT_EQ(text_of(at(reply.json(), "error", "code")), "deadline");
  }
  // The answer waits neither for the engine nor for its last event, which is counted.
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_aborts_total{reason=\"deadline\"}") == 2; }));
}

TEST(Lifecycle, ADeadlineInAStreamIsItsLastEvent) {
  FakeEngineOptions engine;
  engine.context_length = 1 << 30;  // it would go on for ever
  engine.step_time = milliseconds(1);
  TestServer server(test_options(), engine);
  const Reply reply = server.post(
      "/v1/completions", R"({"prompt":"a","timeout_ms":1000,"stream":true,"max_tokens":1000000000})");
  EXPECT_EQ(reply.status, 200);
  const auto events = reply.json_events();
  ASSERT_GE(events.size(), 2U);
  EXPECT_EQ(text_of(at(events.back(), "error", "code")), "deadline");
  EXPECT_NE(reply.events().back(), "[DONE]");
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
}

TEST(Lifecycle, TheServersDeadlineBoundsTheRequests) {
  ServerOptions options = test_options();
  options.request_timeout_s = 0.05;
  TestServer server(options);
  server.engine.pause(true);
  EXPECT_EQ(server.post("/generate", R"({"text":"a","timeout_ms":100000})").status, 504);
  EXPECT_EQ(server.post("/generate", R"({"text":"a"})", "X-Request-Timeout: 100\r\n").status, 504);
  EXPECT_EQ(server.post("/generate", R"({"text":"a"})", "X-Request-Timeout: soon\r\n").status, 400);
}

TEST(Lifecycle, AnErrorOfOneRequestIsItsOwn) {
  TestServer server;
  server.engine.pause(true);
  Client whole(server.port());
  whole.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  server.engine.fail_requests(internal_error("numeric_fault: row 3"));
  server.engine.pause(false);
  const auto reply = whole.receive_reply();
  EXPECT_EQ(reply->status, 500);
  EXPECT_EQ(text_of(at(reply->json(), "error", "code")), "numeric_fault");
  EXPECT_EQ(reply->body.find("row 3"), std::string::npos);  // told to the log, not to clients
  EXPECT_EQ(server.post("/generate", R"({"text":"a"})").status, 200);
}

TEST(Lifecycle, DrainingFinishesWhatRuns) {
  FakeEngineOptions engine;
  engine.step_time = milliseconds(2);
  TestServer server(test_options(), engine);
  Client stream(server.port());
  Client idle(server.port());
  idle.send(make_request("GET", "/health"));
  ASSERT_TRUE(idle.receive_reply().has_value());
  stream.send(make_request("POST", "/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":100})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  server.server->begin_drain();
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/ready").body, R"({"status":"draining"})");
  EXPECT_EQ(server.get("/ready").status, 503);
  const Reply refused = server.post("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(text_of(at(refused.json(), "error", "code")), "draining");
  EXPECT_EQ(refused.header("connection"), "close");
  EXPECT_TRUE(idle.closed_by_server());
  EXPECT_TRUE(server.server->wait().ok());
  const auto reply = stream.receive_reply();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->events().back(), "[DONE]");
  EXPECT_FALSE(Client(server.port()).connected());
}

TEST(Lifecycle, DrainingEndsWithALastEventForWhatTakesTooLong) {
  ServerOptions options = test_options();
  options.drain_timeout_s = 0.1;
  TestServer server(options);
  server.engine.pause(true);
  Client stream(server.port());
  Client whole(server.port());
  stream.send(make_request("POST", "/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":4000})"));
  whole.send(make_request("POST", "/v1/completions", R"({"prompt":"a","max_tokens":4000})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 2; }));
  server.engine.run_steps(1);
  EXPECT_NE(stream.receive_until("\n\n\r\n").find("data: "), std::string::npos);
  server.server->begin_drain();
  EXPECT_TRUE(server.server->wait().ok());
  const std::string last = stream.receive_all();
  EXPECT_NE(last.find("\"shutting_down\""), std::string::npos) << last;
  EXPECT_EQ(last.find("[DONE]"), std::string::npos) << last;
  EXPECT_EQ(whole.receive_reply()->status, 503);
  EXPECT_TRUE(server.engine.idle());
}

TEST(Lifecycle, DrainingBeforeTheModelIsThere) {
  auto server = Server::create(test_options());
  ASSERT_TRUE(server.ok());
  (*server)->start();
  (*server)->begin_drain();
  EXPECT_TRUE((*server)->wait().ok());
}

TEST(Lifecycle, StoppingAbortsWhatRuns) {
  TestServer server;
  server.engine.pause(true);
  Client waiting(server.port());
  waiting.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  server.server->stop();
  EXPECT_TRUE(server.engine.idle() || eventually([&] { return server.engine.idle(); }));
  EXPECT_TRUE(waiting.closed_by_server());
  server.server->stop();  // harmless
}

// Who stopped the server may destroy the engine: no worker may be on its way to it.
TEST(Lifecycle, StoppingWaitsForWhatIsBeingPrepared) {
  TestServer server;
  auto tokenizer = std::make_shared<GatedTokenizer>();
  server.context->tokenizer = tokenizer;
  Client client(server.port());
  client.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return tokenizer->waiting() == 1; }));
  std::jthread opener([&] {
    EXPECT_TRUE(client.closed_by_server());
    tokenizer->open();
  });
  server.server->stop();
  EXPECT_EQ(tokenizer->waiting(), 0);
  EXPECT_EQ(server.engine.submitted(), 0U);
}

TEST(Lifecycle, AFailedEngineTurnsEverythingDown) {
  TestServer server;
  server.engine.pause(true);
  Client waiting(server.port());
  waiting.send(make_request("POST", "/v1/completions", R"({"prompt":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  server.engine.fail();
  EXPECT_EQ(waiting.receive_reply()->status, 503);
  EXPECT_EQ(server.get("/health").status, 503);
  EXPECT_EQ(server.get("/health").body, R"({"status":"failed"})");
  EXPECT_EQ(server.get("/ready").status, 503);
  EXPECT_EQ(text_of(at(server.post("/v1/completions", R"({"prompt":"a"})").json(), "error", "code")),
            "failed");
  EXPECT_EQ(server.server->wait().code(), StatusCode::internal);
}

TEST(Lifecycle, AStuckEngineIsNotReadyButAlive) {
  ServerOptions options = test_options();
  options.engine_stall_s = 0.05;
  TestServer server(options);
  EXPECT_EQ(server.get("/ready").status, 200);
  server.engine.pause(true);
  Client waiting(server.port());
  waiting.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  EXPECT_TRUE(eventually([&] { return server.get("/ready").status == 503; }));
  EXPECT_EQ(server.get("/ready").body, R"({"status":"stalled"})");
  EXPECT_EQ(server.get("/health").status, 200);
  server.engine.pause(false);
  EXPECT_TRUE(eventually([&] { return server.get("/ready").status == 200; }));
}

TEST(Lifecycle, HealthGenerateReallyGenerates) {
  TestServer server;
  EXPECT_EQ(server.get("/health_generate").status, 200);
  EXPECT_EQ(server.engine.submitted(), 1U);
  EXPECT_NE(server.engine.last_request().cache_namespace, 0U);
}

TEST(Lifecycle, HealthGenerateFailsWithoutAToken) {
  ServerOptions options = test_options();
  options.health_generate_timeout_s = 0.05;
  TestServer server(options);
  server.engine.pause(true);
  const Reply reply = server.get("/health_generate");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(text_of(at(reply.json(), "error", "code")), "not_generating");
}

}  // namespace
}  // namespace bifocal::server
