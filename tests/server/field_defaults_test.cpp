// What the engine is asked for when a request names nothing, and that what it names arrives.
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

struct Endpoint {
  std::string_view path;
  std::string_view before, after;  // of further members, ',' included
  int64_t max_new_tokens;          // its default
  std::string_view max_name, min_name, seed_name;
};

constexpr Endpoint kEndpoints[] = {
    {"/v1/completions", R"({"prompt":"a")", "}", 16, "max_tokens", "min_tokens", "seed"},
    {"/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"stop":["a"])", "}", 4096 - 20,
     "max_completion_tokens", "min_tokens", "seed"},
    {"/generate", R"({"text":"a","sampling_params":{"n":1)", "}}", 128, "max_new_tokens", "min_new_tokens",
     "sampling_seed"},
};

engine::GenerateRequest ask(TestServer& server, const Endpoint& endpoint, const std::string& more) {
  const Reply reply =
      server.post(endpoint.path, std::string(endpoint.before) + more + std::string(endpoint.after));
  EXPECT_EQ(reply.status, 200) << endpoint.path << more << reply.body;
  return server.engine.last_request();
}

TEST(FieldDefaults, AreTheApis) {
  TestServer server(test_options(), {"ok"});
  for (const Endpoint& endpoint : kEndpoints) {
    SCOPED_TRACE(endpoint.path);
    const engine::GenerateRequest request = ask(server, endpoint, "");
    const engine::SamplingParams& p = request.sampling;
    EXPECT_EQ(p.max_new_tokens, endpoint.max_new_tokens);
    EXPECT_EQ(p.min_new_tokens, 0);
    EXPECT_EQ(p.temperature, 1.0);
    EXPECT_EQ(p.top_p, 1.0);
    EXPECT_EQ(p.top_k, -1);
    EXPECT_EQ(p.min_p, 0.0);
    EXPECT_EQ(p.repetition_penalty, 1.0);
    EXPECT_EQ(p.frequency_penalty, 0.0);
    EXPECT_EQ(p.presence_penalty, 0.0);
    EXPECT_EQ(p.n, 1);
    EXPECT_TRUE(p.stop_token_ids.empty());
    EXPECT_TRUE(p.logit_bias.empty());
    EXPECT_FALSE(p.ignore_eos);
    EXPECT_TRUE(p.skip_special_tokens);
    EXPECT_FALSE(p.no_stop_trim);
    EXPECT_FALSE(request.return_logprob);
    EXPECT_EQ(request.logprob_start_len, -1);
    EXPECT_EQ(request.top_logprobs_num, 0);
    EXPECT_EQ(request.cache_namespace, 0U);
  }
}

TEST(FieldDefaults, WhatIsGivenArrives) {
  TestServer server(test_options(), {"ok"});
  for (const Endpoint& endpoint : kEndpoints) {
    SCOPED_TRACE(endpoint.path);
    const auto named = [](std::string_view name, std::string_view value) {
      return ",\"" + std::string(name) + "\":" + std::string(value);
    };
    const engine::SamplingParams p =
        ask(server, endpoint,
            R"(,"temperature":0.25,"top_p":0.5,"top_k":7,"min_p":0.125,"repetition_penalty":1.5,)"
            R"("frequency_penalty":-1.25,"presence_penalty":1.75,"stop_token_ids":[5,6],"logit_bias":{"9":-2},)"
            R"("ignore_eos":true,"skip_special_tokens":false,"no_stop_trim":true)" +
                named(endpoint.max_name, "11") + named(endpoint.min_name, "3") +
                named(endpoint.seed_name, "-4"))
            .sampling;
    EXPECT_EQ(p.max_new_tokens, 11);
    EXPECT_EQ(p.min_new_tokens, 3);
    EXPECT_EQ(p.seed, static_cast<uint64_t>(-4));
    EXPECT_EQ(p.temperature, 0.25);
    EXPECT_EQ(p.top_p, 0.5);
    EXPECT_EQ(p.top_k, 7);
    EXPECT_EQ(p.min_p, 0.125);
    EXPECT_EQ(p.repetition_penalty, 1.5);
    EXPECT_EQ(p.frequency_penalty, -1.25);
    EXPECT_EQ(p.presence_penalty, 1.75);
    EXPECT_EQ(p.stop_token_ids, (std::vector<int32_t>{5, 6}));
    EXPECT_EQ(p.logit_bias, (std::vector<std::pair<int32_t, float>>{{9, -2.0F}}));
    EXPECT_TRUE(p.ignore_eos);
    EXPECT_FALSE(p.skip_special_tokens);
    EXPECT_TRUE(p.no_stop_trim);
  }
}

// Request before generation_config.json before the API.
TEST(FieldDefaults, TheModelsValuesComeBetween) {
  TestServer server(test_options(), {"ok"});
  server.context->generation.temperature = 0.6;
  server.context->generation.top_k = 20;
  server.context->generation.repetition_penalty = 1.25;
  for (const Endpoint& endpoint : kEndpoints) {
    SCOPED_TRACE(endpoint.path);
    const engine::SamplingParams defaults = ask(server, endpoint, "").sampling;
    EXPECT_EQ(defaults.temperature, 0.6);
    EXPECT_EQ(defaults.top_k, 20);
    EXPECT_EQ(defaults.repetition_penalty, 1.25);
    EXPECT_EQ(defaults.top_p, 1.0);
    const engine::SamplingParams given = ask(server, endpoint, R"(,"temperature":0,"top_k":-1)").sampling;
    EXPECT_EQ(given.temperature, 0.0);
    EXPECT_EQ(given.top_k, -1);
    EXPECT_EQ(given.repetition_penalty, 1.25);
  }
}

}  // namespace
}  // namespace bifocal::server
