#include "bench/serving_api.h"

#include <gtest/gtest.h>

namespace bifocal::bench {
namespace {

const ServingApi& api_of(std::string_view backend) {
  return *find_serving_backend(backend)->api;
}

WorkloadRequest text_request() {
  return {"Hello", {}, 3, 7};
}
WorkloadRequest ids_request() {
  return {"", {4, 5}, 2, 7};
}

AskOptions asking(std::string model, bool stream = true, bool ignore_eos = true) {
  AskOptions options;
  options.model = std::move(model);
  options.stream = stream;
  options.ignore_eos = ignore_eos;
  return options;
}

TEST(ServingApi, EveryBackendHasANameAndAPath) {
  for (const std::string_view name : serving_backends()) {
    const auto backend = find_serving_backend(name);
    ASSERT_TRUE(backend.ok());
    EXPECT_EQ(backend->name, name);
    EXPECT_TRUE(backend->api->path.starts_with("/"));
  }
  const Status status = find_serving_backend("trt").status();
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("sglang-oai-chat"), std::string::npos);
}

TEST(ServingApi, Bodies) {
  EXPECT_EQ(
      request_body(api_of("sglang"), text_request(), {}),
      R"({"text":"Hello","sampling_params":{"temperature":0,"max_new_tokens":7,"ignore_eos":true},"stream":true})");
  EXPECT_EQ(
      request_body(api_of("bifocal"), ids_request(), asking("", false, false)),
      R"({"input_ids":[4,5],"sampling_params":{"temperature":0,"max_new_tokens":7,"ignore_eos":false},"stream":false})");
  EXPECT_EQ(request_body(api_of("vllm"), ids_request(), asking("m")),
            R"({"model":"m","max_tokens":7,"temperature":0,"ignore_eos":true,"stream":true,)"
            R"("stream_options":{"include_usage":true},"prompt":[4,5],"best_of":1})");
  EXPECT_EQ(request_body(api_of("openai-chat"), text_request(), asking("m", false)),
            R"({"model":"m","max_completion_tokens":7,"temperature":0,"ignore_eos":true,"stream":false,)"
            R"("messages":[{"role":"user","content":"Hello"}]})");
}

TEST(ServingApi, ExtraMembersAreAddedOrReplace) {
  AskOptions options;
  options.stream = false;
  options.model = "m";
  options.extra_body = {{"temperature", 0.5}, {"user", "me"}};
  EXPECT_EQ(request_body(api_of("openai"), text_request(), options),
            R"({"model":"m","max_tokens":7,"temperature":0.5,"ignore_eos":true,"stream":false,)"
            R"("prompt":"Hello","best_of":1,"user":"me"})");
}

TEST(ServingApi, PiecesOfNativeStreams) {
  const auto piece = read_piece(api_of("sglang"), R"({"text":"ab","meta_info":{"completion_tokens":2}})");
  ASSERT_TRUE(piece.ok());
  EXPECT_EQ(piece->text, "ab");
  EXPECT_TRUE(piece->replaces_text);
  EXPECT_EQ(piece->completion_tokens, 2);
}

TEST(ServingApi, PiecesOfOpenAiStreams) {
  const auto text = read_piece(api_of("openai"), R"({"choices":[{"text":"x"}],"usage":null})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->text, "x");
  EXPECT_FALSE(text->replaces_text);
  EXPECT_FALSE(text->completion_tokens.has_value());
  const auto usage = read_piece(api_of("openai"), R"({"choices":[],"usage":{"completion_tokens":9}})");
  ASSERT_TRUE(usage.ok());
  EXPECT_EQ(usage->text, "");
  EXPECT_EQ(usage->completion_tokens, 9);
}

TEST(ServingApi, PiecesOfChats) {
  const ServingApi& api = api_of("openai-chat");
  EXPECT_EQ(read_piece(api, R"({"choices":[{"delta":{"role":"assistant","content":""}}]})")->text, "");
  EXPECT_EQ(read_piece(api, R"({"choices":[{"delta":{"content":"y"}}]})")->text, "y");
  EXPECT_EQ(read_piece(api, R"({"choices":[{"delta":{"reasoning_content":"so "}}]})")->text, "so ");
  EXPECT_EQ(read_piece(api, R"({"choices":[{"delta":{"reasoning":"so "}}]})")->text, "so ");
  EXPECT_EQ(read_piece(api, R"({"choices":[{"message":{"reasoning_content":"r","content":"c"}}]})")->text,
            "rc");
}

TEST(ServingApi, WhatIsNoAnswer) {
  for (const std::string_view name : {"sglang", "openai", "openai-chat"}) {
    const ServingApi& api = api_of(name);
    EXPECT_EQ(read_piece(api, "").status().code(), StatusCode::data_loss);
    EXPECT_EQ(read_piece(api, "[]").status().code(), StatusCode::data_loss);
    EXPECT_EQ(read_piece(api, R"({"choices":[3],"text":4})").status().code(), StatusCode::data_loss);
    EXPECT_EQ(read_piece(api, R"({"usage":{"completion_tokens":-1},"meta_info":{"completion_tokens":1e9}})")
                  .status()
                  .code(),
              StatusCode::data_loss);
    EXPECT_EQ(read_piece(api, R"({"error":{"message":"too long"}})").status().message(), "too long");
    EXPECT_EQ(read_piece(api, R"({"error":"gone"})").status().message(), "\"gone\"");
  }
}

}  // namespace
}  // namespace bifocal::bench
