// Messages, prompts and whole bodies, well and badly formed, and limits that span fields.
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

TEST(RequestBodies, Messages) {
  TestServer server(test_options(), {"ok"});
  const auto status = [&](std::string_view messages) {
    return server.post("/v1/chat/completions", R"({"messages":)" + std::string(messages) + "}").status;
  };
  for (const std::string_view good :
       {R"([{"role":"user","content":"a"}])", R"([{"role":"user","content":""}])",
        R"([{"role":"user","content":[]}])",
        R"([{"role":"system","content":"a"},{"role":"user","content":"b","name":"n"}])",
        R"([{"role":"assistant","content":"a","reasoning_content":"r"}])",
        R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"not json"}}]}])",
        R"([{"role":"tool","content":"a","tool_call_id":"c"}])", R"([{"role":"user","content":"\u0000"}])"}) {
    EXPECT_EQ(status(good), 200) << good;
  }
  for (const std::string_view bad :
       {"null",
        "[]",
        "{}",
        "7",
        "\"a\"",
        "[7]",
        "[null]",
        "[[]]",
        "[{}]",
        R"([{"role":"user"}])",
        R"([{"content":"a"}])",
        R"([{"role":"user","content":null}])",
        R"([{"role":"user","content":7}])",
        R"([{"role":"user","content":{}}])",
        R"([{"role":"robot","content":"a"}])",
        R"([{"role":7,"content":"a"}])",
        R"([{"role":"","content":"a"}])",
        R"([{"role":"user","content":["a"]}])",
        R"([{"role":"user","content":[{"type":"text"}]}])",
        R"([{"role":"user","content":[{"text":"a"}]}])",
        R"([{"role":"user","content":[{"type":"text","text":7}]}])",
        R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://a"}}]}])",
        R"([{"role":"user","content":"a","name":7}])",
        R"([{"role":"assistant","content":"a","tool_calls":7}])",
        R"([{"role":"assistant","content":"a","tool_calls":[7]}])",
        R"([{"role":"assistant","content":"a","tool_calls":[{}]}])",
        R"([{"role":"assistant","content":"a","tool_calls":[{"function":{}}]}])",
        R"([{"role":"assistant","content":"a","tool_calls":[{"function":{"name":"f","arguments":7}}]}])",
        R"([{"role":"user","content":"raise"}])"}) {
    EXPECT_EQ(status(bad), 400) << bad;
  }
}

TEST(RequestBodies, Prompts) {
  TestServer server(test_options(), {"ok"});
  for (const std::string_view bad :
       {"null", "\"\"", "[]", "[[]]", "[\"\"]", "7", "{}", "true", "[1,\"a\"]", "[\"a\",1]", "[[1],\"a\"]",
        "[[1],[]]", "[-1]", "[300]", "[9223372036854775807]", "[1.5]", "[null]", "[{}]", "[[[1]]]"}) {
    EXPECT_EQ(server.post("/v1/completions", R"({"prompt":)" + std::string(bad) + "}").status, 400) << bad;
  }
  EXPECT_EQ(server.post("/v1/completions", "{}").status, 400);
  EXPECT_EQ(server.engine.submitted(), 0U);
}

TEST(RequestBodies, BodiesThatAreNotAnObject) {
  TestServer server;
  const std::string deep_array(100'000, '[');
  std::string deep_object;
  for (int i = 0; i < 50'000; ++i) deep_object += "{\"a\":";
  for (const std::string_view path : {"/v1/completions", "/v1/chat/completions", "/generate", "/tokenize",
                                      "/detokenize", "/abort_request"}) {
    for (const std::string& body :
         {std::string("x"), std::string("[]"), std::string("7"), std::string("null"), std::string("\"a\""),
          std::string("{"), std::string("{}x"), std::string("{\"a\"}"), std::string("\xEF\xBB\xBF{"),
          std::string("{\"a\":1,\"a\":1}"), std::string(1, '\0'), std::string("\xff\xfe"), deep_array,
          deep_object}) {
      const Reply reply = server.post(path, body);
      EXPECT_EQ(reply.status, 400) << path;
      EXPECT_TRUE(reply.json().is_object()) << reply.body;
    }
    const auto empty = fetch(server.port(), "POST", path);
    EXPECT_EQ(empty->status, 400) << path;
  }
}

TEST(RequestBodies, LimitsTogether) {
  TestServer server(test_options(), {"ok"});
  const auto status = [&](std::string_view body) { return server.post("/v1/completions", body).status; };
  EXPECT_EQ(status(R"({"prompt":"a","n":4,"max_tokens":100000})"), 200);  // 4 contexts
  EXPECT_EQ(status(R"({"prompt":"a","n":5,"max_tokens":100000})"), 400);
  EXPECT_EQ(status(R"({"prompt":"a","min_tokens":5,"max_tokens":4})"), 400);
  EXPECT_EQ(status(R"({"prompt":"a","stream":true,"stream_options":{"include_usage":1}})"), 400);
  EXPECT_EQ(status(R"({"prompt":"a","stream":true,"stream_options":{}})"), 200);
  std::string prompts = "[\"a\"";
  for (int i = 0; i < 1024; ++i) prompts += ",\"a\"";
  EXPECT_EQ(status(R"({"prompt":)" + prompts + "]}"), 400);
  const Reply chat =
      server.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":1})");
  EXPECT_EQ(chat.status, 400);
}

}  // namespace
}  // namespace bifocal::server
