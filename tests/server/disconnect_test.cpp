// Clients that go away: at every byte of what they send and of what they get. The engine hears of it at once,
// and hears nothing about requests that ended by themselves.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <future>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

constexpr int kTokens = 4;

std::string generation_request(std::string_view stream) {
  return make_request(
      "POST", "/v1/completions",
      fmt::format(R"({{"prompt":"abc","max_tokens":{},"seed":1,"stream":{}}})", kTokens, stream));
}

// Nothing of earlier clients is left: no connection but the one that asks, and then no request either.
void expect_clean(TestServer& server) {
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
  EXPECT_TRUE(eventually([&] {
    const auto stats = server.engine.stats();
    return stats->aborted_requests + stats->finished_requests == server.engine.submitted();
  }));
  EXPECT_EQ(server.engine.useless_aborts(), 0U);
}

// How it leaves: with FIN or with RST.
class Leaving : public testing::TestWithParam<std::tuple<std::string_view, bool>> {};
std::string name_of(const testing::TestParamInfo<Leaving::ParamType>& test) {
  const auto [stream, reset] = test.param;
  return std::string(stream == "true" ? "stream" : "whole") + (reset ? "_reset" : "_close");
}
INSTANTIATE_TEST_SUITE_P(Disconnect, Leaving,
                         testing::Combine(testing::Values("true", "false"), testing::Bool()), name_of);

// The engine makes one token at a time, when told to: the bytes of each step are known, so the client leaves
// after exactly k of them, and the engine must end the request without making another token.
TEST_P(Leaving, AtEveryByteOfTheAnswer) {
  const auto [stream, reset] = GetParam();
  TestServer server;
  server.engine.pause(true);
  const std::string request = generation_request(stream);
  const auto begin = [&](Client& client) {
    const uint64_t before = server.engine.submitted();
    client.send(request);
    ASSERT_TRUE(eventually([&] { return server.engine.submitted() == before + 1; }));
  };

  std::vector<size_t> bytes_after_step;
  {
    Client client(server.port());
    begin(client);
    for (int step = 1; step <= kTokens; ++step) {
      server.engine.run_steps(1);
      const bool last = step == kTokens;
      size_t bytes = bytes_after_step.empty() ? 0 : bytes_after_step.back();
      if (stream == "true") {
        bytes += client.receive_until(last ? "0\r\n\r\n" : "\n\n\r\n").size();
      } else if (last) {
        bytes += client.receive_until("null}}").size();  // of the usage
      }
      bytes_after_step.push_back(bytes);
    }
  }
  const size_t total = bytes_after_step.back();
  ASSERT_GT(total, 400U);

  uint64_t tokens = kTokens;
  for (size_t k = 0; k < total; ++k) {
    Client client(server.port());
    begin(client);
    size_t got = 0;
    for (const size_t bytes : bytes_after_step) {
      server.engine.run_steps(1);
      ++tokens;
      const size_t wanted = std::min(k, bytes) - got;
      ASSERT_EQ(client.receive_bytes(wanted).size(), wanted) << "of " << k << " bytes";
      got += wanted;
      if (bytes > k) break;
    }
    client.close(reset);
    ASSERT_TRUE(eventually([&] { return server.engine.idle(); })) << "left after " << k << " bytes";
  }
  expect_clean(server);
  EXPECT_EQ(server.engine.stats()->generated_tokens, tokens);
  server.engine.pause(false);
  EXPECT_EQ(server.post("/v1/completions", R"({"prompt":"a"})").status, 200);
}

TEST_P(Leaving, AtEveryByteOfTheRequest) {
  const auto [stream, reset] = GetParam();
  TestServer server;
  server.engine.pause(true);
  const std::string request = generation_request(stream);
  for (size_t k = 0; k <= request.size(); ++k) {
    Client client(server.port());
    ASSERT_TRUE(client.send(request.substr(0, k)));
    client.close(reset);
  }
  expect_clean(server);
  EXPECT_LE(server.engine.submitted(), 1U);
  EXPECT_EQ(server.engine.stats()->generated_tokens, 0U);
}

// A closed sending side means that nobody waits any more: it can't be told from a client that is gone.
TEST(Disconnect, HalfClosedAtEveryByteOfTheRequest) {
  TestServer server;
  server.engine.pause(true);
  const std::string request = generation_request("true");
  const size_t head = request.find("\r\n\r\n") + 4;
  for (size_t k = 0; k <= request.size(); ++k) {
    Client client(server.port());
    ASSERT_TRUE(client.send(request.substr(0, k)));
    client.finish_sending();
    const std::string answer = client.receive_all();
    const bool in_the_body = k >= head && k < request.size();
    EXPECT_EQ(answer.substr(0, 12), in_the_body ? "HTTP/1.1 400" : "") << "at byte " << k;
  }
  expect_clean(server);
}

TEST(Disconnect, HalfClosedClientsGetWhatIsReadyAtOnce) {
  TestServer server;
  Client client(server.port());
  client.send(make_request("GET", "/v1/models"));
  client.finish_sending();
  EXPECT_EQ(client.receive_reply()->status, 200);
  EXPECT_TRUE(client.closed_by_server());
}

TEST(Disconnect, WhileThePromptIsTokenised) {
  TestServer server;
  auto tokenizer = std::make_shared<GatedTokenizer>();
  server.context->tokenizer = tokenizer;
  Client client(server.port());
  client.send(generation_request("true"));
  ASSERT_TRUE(eventually([&] { return tokenizer->waiting() == 1; }));
  client.close();
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
  tokenizer->open();
  EXPECT_TRUE(eventually([&] { return tokenizer->waiting() == 0; }));
  expect_clean(server);
  EXPECT_EQ(server.engine.submitted(), 0U);
}

TEST(Disconnect, WhileABatchIsSubmitted) {
  TestServer server;
  server.engine.pause(true);
  Client client(server.port());
  std::promise<void> left;
  server.engine.set_before_submit_returns([done = left.get_future().share()] { done.wait(); });
  client.send(make_request("POST", "/generate", R"({"text":["a","b","c"]})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  client.close();
  ASSERT_TRUE(eventually([&] { return server.metric("bifocal_aborts_total{reason=\"client_gone\"}") == 1; }));
  left.set_value();
  expect_clean(server);
  EXPECT_EQ(server.engine.submitted(), 1U);
  EXPECT_EQ(server.engine.stats()->aborted_requests, 1U);
}

// The answer may be complete before submit() has returned to the server.
TEST(Disconnect, RequestsThatEndBeforeSubmitReturnsAreNotAborted) {
  TestServer server;
  for (const std::string_view stream : {"true", "false"}) {
    std::promise<void> answered;
    server.engine.set_before_submit_returns([done = answered.get_future().share()] { done.wait(); });
    EXPECT_EQ(fetch(server.port(), "POST", "/v1/completions",
                    fmt::format(R"({{"prompt":"a","max_tokens":3,"stream":{}}})", stream))
                  ->status,
              200);
    answered.set_value();
  }
  expect_clean(server);
  EXPECT_EQ(server.engine.stats()->finished_requests, 2U);
}

TEST(Disconnect, RequestsThatEndAreNotAborted) {
  TestServer server;
  for (int i = 0; i < 200; ++i) {
    const std::string stream = i % 2 == 0 ? "true" : "false";
    EXPECT_EQ(
        server.post("/v1/completions", R"({"prompt":"a","max_tokens":3,"stream":)" + stream + "}").status,
        200);
  }
  expect_clean(server);
  EXPECT_EQ(server.engine.stats()->aborted_requests, 0U);
}

TEST(Disconnect, AFloodBehindARequestEndsTheConnection) {
  TestServer server;
  server.engine.pause(true);
  Client client(server.port());
  client.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return !server.engine.idle(); }));
  while (client.send(std::string(4096, 'x'))) {
  }
  expect_clean(server);
}

}  // namespace
}  // namespace bifocal::server
