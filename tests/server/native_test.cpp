#include <gtest/gtest.h>

#include <future>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

FakeEngineOptions scripted(std::string script) {
  FakeEngineOptions options;
  options.script = std::move(script);
  return options;
}

TEST(Generate, AnswersWhole) {
  TestServer server(test_options(), scripted("Paris."));
  const Reply reply =
      server.post("/generate", R"({"text":"Capital?","sampling_params":{"temperature":0},"rid":"q-1"})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const JsonValue json = reply.json();
  EXPECT_EQ(text_of(at(json, "text")), "Paris.");
  EXPECT_EQ(text_of(at(json, "output_ids")), "[80,97,114,105,115,46,256]");
  const JsonValue& meta = at(json, "meta_info");
  EXPECT_EQ(text_of(at(meta, "id")), "q-1");
  EXPECT_EQ(text_of(at(meta, "finish_reason")), R"({"type":"stop","matched":256})");
  EXPECT_EQ(text_of(at(meta, "prompt_tokens")), "8");
  EXPECT_EQ(text_of(at(meta, "completion_tokens")), "7");
  EXPECT_EQ(text_of(at(meta, "cached_tokens")), "0");
  EXPECT_TRUE(at(meta, "e2e_latency").is_double());
  EXPECT_EQ(meta.find("input_token_logprobs"), nullptr);
}

TEST(Generate, StreamsTheTextSoFar) {
  TestServer server(test_options(), scripted("abc"));
  const Reply reply = server.post("/generate", R"({"input_ids":[1,2],"stream":true})");
  EXPECT_EQ(reply.events().back(), "[DONE]");
  const auto events = reply.json_events();
  std::string before;
  for (const JsonValue& event : events) {
    const std::string text = at(event, "text").as_string();
    EXPECT_TRUE(text.starts_with(before));
    EXPECT_EQ(at(event, "output_ids").as_array().size(),
              static_cast<size_t>(at(event, "meta_info", "completion_tokens").as_int()));
    EXPECT_EQ(event.find("index"), nullptr);
    before = text;
  }
  EXPECT_EQ(before, "abc");
  EXPECT_EQ(text_of(at(events.back(), "meta_info", "finish_reason", "type")), "stop");
  EXPECT_TRUE(at(events.front(), "meta_info", "finish_reason").is_null() || events.size() == 1);
}

TEST(Generate, StreamsIncrementsWhenToldTo) {
  ServerOptions options = test_options();
  options.incremental_streaming_output = true;
  TestServer server(options, scripted("abc"));
  std::string joined;
  size_t ids = 0;
  const auto events = server.post("/generate", R"({"text":"x","stream":true})").json_events();
  for (const JsonValue& event : events) {
    joined += at(event, "text").as_string();
    ids += at(event, "output_ids").as_array().size();
  }
  EXPECT_EQ(joined, "abc");
  EXPECT_EQ(ids, 4U);
  EXPECT_EQ(text_of(at(events.back(), "meta_info", "completion_tokens")), "4");
}

TEST(Generate, BatchesAreLists) {
  TestServer server;
  const JsonValue json = server
                             .post("/generate", R"({"text":["a","bb","ccc"],"rid":"b","sampling_params":
                                 [{"max_new_tokens":1},{"max_new_tokens":2},{"max_new_tokens":3,"n":2}]})")
                             .json();
  ASSERT_EQ(json.as_array().size(), 4U);
  EXPECT_EQ(text_of(at(json, 1, "meta_info", "id")), "b_1");
  EXPECT_EQ(text_of(at(json, 1, "meta_info", "completion_tokens")), "2");
  EXPECT_EQ(text_of(at(json, 1, "meta_info", "finish_reason")), R"({"type":"length","length":2})");
  EXPECT_EQ(text_of(at(json, 3, "meta_info", "prompt_tokens")), "3");
  EXPECT_EQ(server.post("/generate", R"({"text":["a"]})").json().as_array().size(), 1U);
  EXPECT_EQ(server.post("/generate", R"({"text":"a","sampling_params":{"n":2}})").json().as_array().size(),
            2U);
  for (const JsonValue& event :
       server
           .post("/generate",
                 R"({"input_ids":[[1],[2]],"stream":true,"sampling_params":{"max_new_tokens":2}})")
           .json_events()) {
    EXPECT_TRUE(at(event, "index").is_int());
  }
}

TEST(Generate, Logprobs) {
  TestServer server(test_options(), scripted("z"));
  const JsonValue json = server
                             .post("/generate", R"({"text":"abc","return_logprob":true,"logprob_start_len":0,
                                 "top_logprobs_num":2,"return_text_in_logprobs":true})")
                             .json();
  const JsonValue& meta = at(json, "meta_info");
  ASSERT_EQ(at(meta, "input_token_logprobs").as_array().size(), 3U);
  EXPECT_EQ(text_of(at(meta, "input_token_logprobs", 0)), R"([null,97,"a"])");
  EXPECT_EQ(text_of(at(meta, "input_token_logprobs", 1, 2)), "b");
  EXPECT_EQ(text_of(at(meta, "input_top_logprobs", 0)), "null");
  EXPECT_EQ(text_of(at(meta, "input_top_logprobs", 1)), R"([[-0.5,65,"A"],[-1.5,66,"B"]])");
  EXPECT_EQ(text_of(at(meta, "output_token_logprobs", 0, 1)), "122");
  EXPECT_EQ(at(meta, "output_top_logprobs").as_array().size(), 2U);

  const JsonValue tail =
      server.post("/generate", R"({"text":"abc","return_logprob":true,"logprob_start_len":2})").json();
  EXPECT_EQ(text_of(at(tail, "meta_info", "input_token_logprobs", 0, 1)), "99");
  EXPECT_TRUE(at(tail, "meta_info", "input_token_logprobs", 0, 2).is_null());
  EXPECT_EQ(at(tail, "meta_info").find("input_top_logprobs"), nullptr);
  const JsonValue output_only = server.post("/generate", R"({"text":"abc","return_logprob":true})").json();
  EXPECT_TRUE(at(output_only, "meta_info", "input_token_logprobs").as_array().empty());
  const JsonValue mixed =
      server.post("/generate", R"({"text":["a","b"],"return_logprob":[true,false]})").json();
  EXPECT_NE(at(mixed, 0, "meta_info").find("output_token_logprobs"), nullptr);
  EXPECT_EQ(at(mixed, 1, "meta_info").find("output_token_logprobs"), nullptr);
}

TEST(Generate, ScoringAPromptGeneratesNothing) {
  TestServer server(test_options(), scripted("z"));
  const JsonValue json = server
                             .post("/generate", R"({"text":"abc","return_logprob":true,"logprob_start_len":0,
                                 "sampling_params":{"max_new_tokens":0}})")
                             .json();
  EXPECT_EQ(text_of(at(json, "text")), "");
  EXPECT_EQ(text_of(at(json, "meta_info", "completion_tokens")), "0");
  EXPECT_EQ(text_of(at(json, "meta_info", "finish_reason")), R"({"type":"length","length":0})");
  EXPECT_EQ(at(json, "meta_info", "input_token_logprobs").as_array().size(), 3U);
}

TEST(Generate, TheLengthIsWhatFitTheContext) {
  FakeEngineOptions engine;
  engine.context_length = 100;
  TestServer server(test_options(), engine);
  const JsonValue json = server
                             .post("/generate", R"({"text":")" + std::string(95, 'a') +
                                                    R"(","sampling_params":{"max_new_tokens":50}})")
                             .json();
  EXPECT_EQ(text_of(at(json, "meta_info", "finish_reason")), R"({"type":"length","length":5})");
}

TEST(Generate, ExactlyOneInput) {
  TestServer server;
  for (const std::string_view body : {"{}",
                                      R"({"text":"a","input_ids":[1]})",
                                      R"({"text":""})",
                                      R"({"text":[]})",
                                      R"({"text":[""]})",
                                      R"({"input_ids":[]})",
                                      R"({"input_ids":[[]]})",
                                      R"({"input_ids":[[1],[]]})",
                                      R"({"input_ids":[1,[2]]})",
                                      R"({"input_ids":[300]})",
                                      R"({"input_ids":[-1]})",
                                      R"({"input_ids":[1.0]})",
                                      R"({"text":["a",1]})",
                                      R"({"text":{"a":1}})",
                                      R"({"text":5})",
                                      R"({"text":["a","b"],"sampling_params":[{}]})",
                                      R"({"text":["a","b"],"rid":["x"]})",
                                      R"({"text":["a","b"],"rid":["x","x"]})",
                                      R"({"text":"a","rid":""})",
                                      R"({"text":"a","rid":"a b"})",
                                      R"({"text":["a","b"],"return_logprob":[true]})",
                                      R"({"text":"a","sampling_params":5})"}) {
    EXPECT_EQ(server.post("/generate", body).status, 400) << body;
  }
  EXPECT_EQ(server.engine.submitted(), 0U);
}

TEST(Tokenize, ThereAndBack) {
  TestServer server;
  for (const std::string_view prefix : {"", "/v1"}) {
    const std::string tokenize = std::string(prefix) + "/tokenize";
    const std::string detokenize = std::string(prefix) + "/detokenize";
    EXPECT_EQ(server.post(tokenize, R"({"prompt":"hi<eos>"})").body,
              R"({"tokens":[104,105,256],"count":3,"max_model_len":4096})");
    EXPECT_EQ(server.post(tokenize, R"({"prompt":["a","bc"]})").body,
              R"({"tokens":[[97],[98,99]],"count":[1,2],"max_model_len":4096})");
    EXPECT_EQ(server.post(tokenize, R"({"prompt":""})").body,
              R"({"tokens":[],"count":0,"max_model_len":4096})");
    EXPECT_EQ(server.post(detokenize, R"({"tokens":[104,105,256]})").body, R"({"text":"hi"})");
    EXPECT_EQ(server.post(detokenize, R"({"tokens":[104,256],"skip_special_tokens":false})").body,
              R"({"text":"h<eos>"})");
    EXPECT_EQ(server.post(detokenize, R"({"tokens":[[104],[105]]})").body, R"({"text":["h","i"]})");
    for (const std::string_view body :
         {"{}", R"({"prompt":1})", R"({"prompt":"a","messages":[]})", R"({"prompt":[1]})"}) {
      EXPECT_EQ(server.post(tokenize, body).status, 400) << body;
    }
    for (const std::string_view body :
         {"{}", R"({"tokens":"a"})", R"({"tokens":[300]})", R"({"tokens":[[1],2]})"}) {
      EXPECT_EQ(server.post(detokenize, body).status, 400) << body;
    }
  }
}

TEST(Info, ModelsAndServer) {
  TestServer server;
  const JsonValue models = server.get("/v1/models").json();
  EXPECT_EQ(
      text_of(models),
      R"({"object":"list","data":[{"id":"fake","object":"model","created":1700000000,"owned_by":"bifocal",)"
      R"("root":"fake","parent":null,"max_model_len":4096}]})");
  EXPECT_EQ(server.get("/v1/models/fake").json(), at(models, "data", 0));
  EXPECT_EQ(server.get("/v1/models/f%61ke").status, 200);
  const Reply other = server.get("/v1/models/other");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(text_of(at(other.json(), "error", "code")), "model_not_found");
  EXPECT_EQ(text_of(at(server.get("/get_model_info").json(), "model_path")), "/models/fake");
  EXPECT_EQ(server.get("/model_info").body, server.get("/get_model_info").body);
  server.context->server_args = {{"dtype", JsonValue("float32")}, {"page_size", JsonValue(99)}};
  const JsonValue info = server.get("/server_info").json();
  EXPECT_EQ(text_of(at(info, "dtype")), "float32");
  EXPECT_EQ(text_of(at(info, "page_size")), "16");
  EXPECT_EQ(text_of(at(info, "max_req_input_len")), "4095");
  const JsonValue& state = at(info, "internal_states", 0);
  EXPECT_TRUE(at(state, "last_gen_throughput").is_number());
  EXPECT_TRUE(at(state, "avg_spec_accept_length").is_null());
  EXPECT_EQ(text_of(at(state, "attention", 1, "backend")), "streaming");
  EXPECT_EQ(text_of(at(state, "attention", 1, "reason")), "--decode-attention-backend");
}

TEST(Control, FlushNeedsAnIdleEngine) {
  TestServer server;
  EXPECT_EQ(server.get("/flush_cache").status, 200);
  const auto bare =
      fetch(server.port(), "POST", "/flush_cache");  // without body and type, as benchmarks send it
  EXPECT_EQ(bare->status, 200);
  EXPECT_TRUE(bare->body.starts_with("Cache flushed."));
  server.engine.pause(true);
  Client waiting(server.port());
  waiting.send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  EXPECT_EQ(server.get("/flush_cache").status, 400);
}

// The client wants one prompt of a batch no more while the batch is still being handed to the engine.
TEST(Control, AbortReachesPromptsThatAreNotSubmittedYet) {
  TestServer server;
  server.engine.pause(true);
  std::promise<void> aborted;
  server.engine.set_before_submit_returns([done = aborted.get_future().share()] { done.wait(); });
  Client batch(server.port());
  batch.send(make_request("POST", "/generate",
                          R"({"text":["a","b"],"rid":"b","sampling_params":{"max_new_tokens":2}})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"b_1"})").body, R"({"success":true,"aborted":1})");
  aborted.set_value();
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 2; }));
  ASSERT_TRUE(eventually([&] { return server.engine.stats()->aborted_requests == 1; }));
  server.engine.run_steps(2);
  const auto reply = batch.receive_reply();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(text_of(at(reply->json(), 0, "meta_info", "finish_reason", "type")), "length");
  EXPECT_EQ(text_of(at(reply->json(), 1, "meta_info", "finish_reason", "type")), "abort");
}

TEST(Control, AbortEndsOneRequestOrAll) {
  TestServer server;
  server.engine.pause(true);
  Client one(server.port());
  Client batch(server.port());
  one.send(make_request("POST", "/generate", R"({"text":"a","rid":"one"})"));
  batch.send(make_request("POST", "/generate", R"({"text":["a","b"],"rid":"batch"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 3; }));
  EXPECT_EQ(server.post("/generate", R"({"text":"a","rid":"one"})").status, 400);  // taken
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"nobody"})").body, R"({"success":true,"aborted":0})");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"one"})").body, R"({"success":true,"aborted":1})");
  const auto aborted = one.receive_reply();
  ASSERT_TRUE(aborted.has_value());
  EXPECT_EQ(aborted->status, 200);
  EXPECT_EQ(text_of(at(aborted->json(), "meta_info", "finish_reason", "type")), "abort");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"batch_0"})").body, R"({"success":true,"aborted":1})");
  EXPECT_EQ(server.post("/abort_request", R"({"abort_all":true})").body, R"({"success":true,"aborted":1})");
  EXPECT_EQ(batch.receive_reply()->json().as_array().size(), 2U);
  EXPECT_EQ(server.post("/abort_request", "{}").status, 400);
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
  server.engine.pause(false);
  // An id is free again as soon as its answer is there.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(
        server.post("/generate", R"({"text":"a","rid":"one","sampling_params":{"max_new_tokens":1}})").status,
        200);
  }
}

}  // namespace
}  // namespace bifocal::server
