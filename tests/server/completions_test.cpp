#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kPath = "/v1/completions";

FakeEngineOptions scripted(std::string script) {
  FakeEngineOptions options;
  options.script = std::move(script);
  return options;
}

TEST(Completions, AnswersWhole) {
  TestServer server(test_options(), scripted("one two"));
  const Reply reply = server.post(kPath, R"({"prompt":"count","max_tokens":20})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const JsonValue json = reply.json();
  EXPECT_TRUE(at(json, "id").as_string().starts_with("cmpl-"));
  EXPECT_EQ(text_of(at(json, "object")), "text_completion");
  EXPECT_EQ(text_of(at(json, "choices")),
            R"([{"index":0,"text":"one two","logprobs":null,"finish_reason":"stop","matched_stop":256}])");
  EXPECT_EQ(text_of(at(json, "usage")),
            R"({"prompt_tokens":5,"completion_tokens":8,"total_tokens":13,"prompt_tokens_details":null})");
}

TEST(Completions, SixteenTokensUnlessTold) {
  TestServer server;
  const JsonValue json = server.post(kPath, R"({"prompt":"a"})").json();
  EXPECT_EQ(text_of(at(json, "usage", "completion_tokens")), "16");
  EXPECT_EQ(text_of(at(json, "choices", 0, "finish_reason")), "length");
}

TEST(Completions, TheSameSeedSaysTheSame) {
  TestServer server;
  const auto text = [&](std::string_view body) {
    return text_of(at(server.post(kPath, body).json(), "choices", 0, "text"));
  };
  std::string expected;
  for (int i = 0; i < 16; ++i) expected += FakeEngine::letter(11, 0, i);
  EXPECT_EQ(text(R"({"prompt":"a","seed":11})"), expected);
  EXPECT_EQ(text(R"({"prompt":[7,8],"seed":11})"), expected);
  EXPECT_NE(text(R"({"prompt":"a"})"), text(R"({"prompt":"a"})"));  // fresh seeds
}

TEST(Completions, BatchesAndChoicesAreNumberedThrough) {
  TestServer server;
  const JsonValue json = server.post(kPath, R"({"prompt":["a","bc"],"n":3,"max_tokens":4,"seed":3})").json();
  ASSERT_EQ(at(json, "choices").as_array().size(), 6U);
  for (int i = 0; i < 6; ++i) {
    std::string expected;
    for (int k = 0; k < 4; ++k) expected += FakeEngine::letter(3, i % 3, k);
    EXPECT_EQ(text_of(at(json, "choices", i, "index")), std::to_string(i));
    EXPECT_EQ(text_of(at(json, "choices", i, "text")), expected);
  }
  EXPECT_EQ(text_of(at(json, "usage", "prompt_tokens")), "3");
  EXPECT_EQ(text_of(at(json, "usage", "completion_tokens")), "24");
  EXPECT_EQ(
      at(server.post(kPath, R"({"prompt":[[1,2],[3]],"max_tokens":1})").json(), "choices").as_array().size(),
      2U);
}

TEST(Completions, Streams) {
  TestServer server(test_options(), scripted("abc"));
  const Reply reply = server.post(
      kPath,
      R"({"prompt":"x","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}})");
  EXPECT_EQ(reply.events().back(), "[DONE]");
  std::string text;
  const auto chunks = reply.json_events();
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    text += at(chunks[i], "choices", 0, "text").as_string();
    EXPECT_TRUE(at(chunks[i], "usage", "completion_tokens").is_int());
  }
  EXPECT_EQ(text, "abc");
  EXPECT_EQ(text_of(at(chunks[chunks.size() - 2], "choices", 0, "finish_reason")), "stop");
  EXPECT_EQ(text_of(at(chunks.back(), "usage", "completion_tokens")), "4");
  EXPECT_TRUE(at(chunks.back(), "choices").as_array().empty());
}

TEST(Completions, StreamedChoicesCarryTheirIndex) {
  TestServer server;
  const Reply reply =
      server.post(kPath, R"({"prompt":["a","b"],"n":2,"max_tokens":6,"seed":4,"stream":true})");
  std::vector<std::string> texts(4), ends(4);
  for (const JsonValue& event : reply.json_events()) {
    const JsonValue& choice = at(event, "choices", 0);
    const auto index = static_cast<size_t>(at(choice, "index").as_int());
    ASSERT_LT(index, 4U);
    EXPECT_EQ(ends[index], "") << "nothing comes after the end";
    texts[index] += at(choice, "text").as_string();
    if (at(choice, "finish_reason").is_string()) ends[index] = at(choice, "finish_reason").as_string();
  }
  for (size_t i = 0; i < 4; ++i) {
    std::string expected;
    for (int k = 0; k < 6; ++k) expected += FakeEngine::letter(4, static_cast<int>(i % 2), k);
    EXPECT_EQ(texts[i], expected);
    EXPECT_EQ(ends[i], "length");
  }
}

// The tokens in each event of a stream of `max_tokens`, the engine's steps being taken one at a time.
std::vector<size_t> tokens_per_event(TestServer& server, std::string_view body, int max_tokens) {
  server.engine.pause(true);
  const uint64_t before = server.engine.submitted();
  Client client(server.port());
  client.send(make_request("POST", kPath, body));
  EXPECT_TRUE(eventually([&] { return server.engine.submitted() == before + 1; }));
  std::vector<size_t> out;
  for (int step = 0; step < max_tokens; ++step) {
    server.engine.run_steps(1);
    if (step % 5 != 0) continue;  // nothing is to be shown
    const std::string event = client.receive_until("\n\n\r\n");
    const size_t begin = event.find("\"text\":\"") + 8;
    out.push_back(event.find('"', begin) - begin);
  }
  server.engine.pause(false);
  return out;
}

TEST(Completions, StreamIntervalGroupsTokens) {
  ServerOptions options = test_options();
  options.stream_interval = 5;
  TestServer server(options);
  const std::vector<size_t> expected = {1, 5, 5, 5, 5};  // the first at once
  EXPECT_EQ(tokens_per_event(server, R"({"prompt":"x","stream":true,"max_tokens":22})", 21), expected);
  TestServer other;
  EXPECT_EQ(
      tokens_per_event(other, R"({"prompt":"x","stream":true,"max_tokens":22,"stream_interval":5})", 21),
      expected);
}

TEST(Completions, Logprobs) {
  TestServer server(test_options(), scripted("h\xC3\xA9y"));
  const JsonValue json = server.post(kPath, R"({"prompt":"x","logprobs":2})").json();
  const JsonValue& logprobs = at(json, "choices", 0, "logprobs");
  EXPECT_EQ(text_of(at(logprobs, "text_offset")), "[0,1,2,2,3]");
  EXPECT_EQ(text_of(at(logprobs, "tokens", 3)), "y");
  EXPECT_EQ(text_of(at(logprobs, "tokens", 4)), "<eos>");
  EXPECT_EQ(at(logprobs, "token_logprobs").as_array().size(), 5U);
  // Bytes that are no characters keep different names.
  EXPECT_EQ(text_of(at(logprobs, "top_logprobs", 0)), R"({"bytes:\\xc8":-0.5,"bytes:\\xc9":-1.5})");
  const JsonValue none = server.post(kPath, R"({"prompt":"x","logprobs":0})").json();
  EXPECT_EQ(text_of(at(none, "choices", 0, "logprobs", "top_logprobs", 0)), "{}");
}

TEST(Completions, EchoRepeatsThePromptAndItsLogprobs) {
  TestServer server(test_options(), scripted("z"));
  const JsonValue json = server.post(kPath, R"({"prompt":"ab","echo":true,"logprobs":1})").json();
  const JsonValue& choice = at(json, "choices", 0);
  EXPECT_EQ(text_of(at(choice, "text")), "abz");
  EXPECT_EQ(text_of(at(choice, "logprobs", "tokens")), R"(["a","b","z","<eos>"])");
  EXPECT_TRUE(at(choice, "logprobs", "token_logprobs", 0).is_null());
  EXPECT_TRUE(at(choice, "logprobs", "top_logprobs", 0).is_null());
  EXPECT_TRUE(at(choice, "logprobs", "token_logprobs", 1).is_double());
  EXPECT_EQ(text_of(at(choice, "logprobs", "text_offset")), "[0,1,2,3]");
  EXPECT_EQ(
      text_of(at(server.post(kPath, R"({"prompt":[104,105],"echo":true})").json(), "choices", 0, "text")),
      "hiz");
}

TEST(Completions, ScoringAPromptGeneratesNothing) {
  TestServer server(test_options(), scripted("z"));
  const JsonValue json =
      server.post(kPath, R"({"prompt":"ab","echo":true,"logprobs":1,"max_tokens":0})").json();
  const JsonValue& choice = at(json, "choices", 0);
  EXPECT_EQ(text_of(at(choice, "text")), "ab");
  EXPECT_EQ(text_of(at(choice, "finish_reason")), "length");
  EXPECT_EQ(at(choice, "logprobs", "tokens").as_array().size(), 2U);
  EXPECT_EQ(text_of(at(json, "usage", "completion_tokens")), "0");
  EXPECT_EQ(server.post(kPath, R"({"prompt":"ab","max_tokens":0})").status, 400);
}

// The second choice ends first; its echo needs the logprobs that came with the first one.
TEST(Completions, EveryChoiceEchoesThePromptsLogprobs) {
  uint64_t seed = 0;
  while (FakeEngine::letter(seed, 1, 0) != 'q' || FakeEngine::letter(seed, 0, 0) == 'q' ||
         FakeEngine::letter(seed, 0, 1) == 'q') {
    ++seed;
  }
  TestServer server;
  const JsonValue json =
      server
          .post(kPath, R"({"prompt":"ab","echo":true,"logprobs":1,"n":2,"max_tokens":2,"stop":"q","seed":)" +
                           std::to_string(seed) + "}")
          .json();
  for (int choice = 0; choice < 2; ++choice) {
    EXPECT_EQ(text_of(at(json, "choices", choice, "logprobs", "tokens", 0)), "a");
    EXPECT_EQ(text_of(at(json, "choices", choice, "logprobs", "tokens", 1)), "b");
    EXPECT_EQ(text_of(at(json, "choices", choice, "logprobs", "text_offset", 2)), "2");
  }
  EXPECT_EQ(text_of(at(json, "choices", 1, "text")), "ab");
}

TEST(Completions, StopsAndBias) {
  TestServer server(test_options(), scripted("abcdef"));
  const JsonValue json = server.post(kPath, R"({"prompt":"x","stop":"cd"})").json();
  EXPECT_EQ(text_of(at(json, "choices", 0, "text")), "ab");
  EXPECT_EQ(text_of(at(json, "choices", 0, "matched_stop")), "cd");
  const JsonValue first_of_two = server.post(kPath, R"({"prompt":"x","stop":["ef","bc"]})").json();
  EXPECT_EQ(text_of(at(first_of_two, "choices", 0, "text")), "a");
  EXPECT_EQ(text_of(at(first_of_two, "choices", 0, "matched_stop")), "bc");
  const JsonValue by_id = server.post(kPath, R"({"prompt":"x","stop_token_ids":[99]})").json();
  EXPECT_EQ(text_of(at(by_id, "choices", 0, "text")), "ab");
  EXPECT_EQ(text_of(at(by_id, "choices", 0, "matched_stop")), "99");
  server.post(kPath, R"({"prompt":"x","logit_bias":{"0":-100,"299":5.5}})");
  const auto bias = server.engine.last_request().sampling.logit_bias;
  ASSERT_EQ(bias.size(), 2U);
  EXPECT_EQ(bias[0], (std::pair<int32_t, float>(0, -100.0F)));
  EXPECT_EQ(bias[1], (std::pair<int32_t, float>(299, 5.5F)));
}

TEST(Completions, CacheNamespaces) {
  TestServer server;
  const auto space = [&](std::string_view body) {
    EXPECT_EQ(server.post(kPath, body).status, 200);
    return server.engine.last_request().cache_namespace;
  };
  EXPECT_EQ(space(R"({"prompt":"x"})"), 0U);
  const uint64_t salted = space(R"({"prompt":"x","cache_salt":"s"})");
  EXPECT_NE(salted, 0U);
  EXPECT_EQ(space(R"({"prompt":"x","cache_salt":"s"})"), salted);
  EXPECT_NE(space(R"({"prompt":"x","extra_key":"s"})"), salted);
  EXPECT_NE(space(R"({"prompt":"x","cache_salt":"t"})"), salted);
}

TEST(Completions, TooLongPromptsAreRefusedWithTheNumbers) {
  FakeEngineOptions engine;
  engine.context_length = 100;
  TestServer server(test_options(), engine);
  const std::string prompt(100, 'x');
  const Reply reply = server.post(kPath, R"({"prompt":")" + prompt + R"("})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(text_of(at(reply.json(), "error", "code")), "context_length_exceeded");
  EXPECT_NE(text_of(at(reply.json(), "error", "message")).find("100 tokens"), std::string::npos);
  EXPECT_EQ(server.engine.submitted(), 0U);
  // One token fits behind 99; asking for more is not an error.
  const Reply fits = server.post(kPath, R"({"prompt":")" + prompt.substr(1) + R"(","max_tokens":90})");
  EXPECT_EQ(text_of(at(fits.json(), "usage", "completion_tokens")), "1");
  EXPECT_EQ(text_of(at(fits.json(), "choices", 0, "finish_reason")), "length");
}

TEST(Completions, WithoutATokenizer) {
  TestServer server;
  server.context->tokenizer = nullptr;
  EXPECT_EQ(server.post(kPath, R"({"prompt":"x"})").status, 400);
  EXPECT_EQ(server.post(kPath, R"({"prompt":[1],"stop":"x"})").status, 400);
  const JsonValue json =
      server.post(kPath, R"({"prompt":[1],"logprobs":1,"max_tokens":2,"echo":true})").json();
  EXPECT_EQ(text_of(at(json, "choices", 0, "logprobs", "tokens", 0)), "token_id:1");
}

}  // namespace
}  // namespace bifocal::server
