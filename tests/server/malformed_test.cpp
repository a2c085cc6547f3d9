// Ten thousand seeded malformed requests: the server answers or closes each, keeps none, and stays well.
#include <gtest/gtest.h>

#include <thread>

#include "base/hash.h"
#include "base/utf8.h"
#include "server/http/request_parser.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

struct Good {
  std::string path;
  std::string body;  // "": GET
};

const std::vector<Good>& good_requests() {
  static const std::vector<Good> all = {
      {"/v1/chat/completions",
       R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"Hi"}],"max_tokens":4,"temperature":0.5,"stream":true})"},
      {"/v1/chat/completions",
       R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"n":2,"logprobs":true,"top_logprobs":3,"seed":1})"},
      {"/v1/completions",
       R"({"prompt":"abc","max_tokens":3,"stop":["x","y"],"logit_bias":{"5":-1.5},"echo":true,"logprobs":1})"},
      {"/v1/completions",
       R"({"prompt":[[1,2],[3]],"stream":true,"stream_options":{"include_usage":true},"top_k":5,"top_p":0.9,"min_p":0.1})"},
      {"/generate",
       R"({"text":["a","b"],"sampling_params":[{"max_new_tokens":2},{"n":2,"max_new_tokens":1}],"return_logprob":[true,false]})"},
      {"/generate",
       R"({"input_ids":[1,2,3],"stream":true,"rid":"r","sampling_params":{"temperature":0,"max_new_tokens":2}})"},
      {"/tokenize", R"({"prompt":["a","b"],"add_special_tokens":false})"},
      {"/detokenize", R"({"tokens":[1,2],"skip_special_tokens":true})"},
      {"/abort_request", R"({"rid":"r","abort_all":false})"},
      {"/health", ""},
      {"/metrics", ""},
      {"/v1/models", ""},
      {"/v1/models/x", ""},
      {"/flush_cache", ""},
      {"/get_server_info", ""}};
  return all;
}

const std::vector<std::string>& splinters() {
  static const std::vector<std::string> all = {"null",
                                               "-1",
                                               "1e309",
                                               "NaN",
                                               "\"\\ud800\"",
                                               "\xff\xfe",
                                               "\xC0\xAF",
                                               "\xED\xA0\x80",
                                               std::string(1, '\0'),
                                               "{",
                                               "}",
                                               "[",
                                               "]",
                                               ",",
                                               ":",
                                               "\"",
                                               "\\",
                                               "\\u0000",
                                               "9223372036854775808",
                                               std::string(200, '['),
                                               std::string(300, 'A'),
                                               "<|im_start|>",
                                               "\r\n",
                                               "\n",
                                               "\r",
                                               "%00",
                                               "../",
                                               "Transfer-Encoding: chunked\r\n",
                                               "Content-Length: 0\r\n",
                                               "Content-Length: -1\r\n",
                                               "Expect: 100-continue\r\n",
                                               "Connection: close\r\n",
                                               "0\r\n\r\n",
                                               "true",
                                               "2147483648",
                                               "\"n\":1000000000,",
                                               "\"stream\":",
                                               "\"prompt\":",
                                               "\"messages\":"};
  return all;
}

void mutate(std::string& bytes, SplitMix64& random, uint64_t edits) {
  for (; edits > 0 && !bytes.empty(); --edits) {
    const size_t where = random.below(bytes.size());
    switch (random.below(6)) {
      case 0:
        bytes[where] = static_cast<char>(random.below(256));
        break;
      case 1:
        bytes.erase(where, 1 + random.below(12));
        break;
      case 2:
        bytes.insert(where, splinters()[random.below(splinters().size())]);
        break;
      case 3:
        bytes.insert(where, bytes.substr(random.below(bytes.size()), random.below(40)));
        break;
      case 4:
        bytes.resize(where);
        break;
      default:
        bytes.replace(where, std::min<size_t>(bytes.size() - where, random.below(10)),
                      splinters()[random.below(splinters().size())]);
    }
  }
}

// A good request, mostly on its own path, mutated in its body, its head and its bytes, or not at all.
std::string random_request(SplitMix64& random) {
  const auto& good = good_requests();
  const Good& chosen = good[random.below(good.size())];
  std::string body = chosen.body;
  const std::string& path = random.below(8) == 0 ? good[random.below(good.size())].path : chosen.path;
  if (random.below(2) == 0) mutate(body, random, 1 + random.below(4));
  std::string request = make_request(body.empty() ? "GET" : "POST", path, body);
  if (random.below(2) == 0) mutate(request, random, 1 + random.below(4));
  return request;
}

// How many whole requests the bytes hold, as the server should see it.
int count_requests(const std::string& bytes) {
  http::RequestParser parser{http::ParserLimits()};
  using State = http::RequestParser::State;
  parser.append(bytes);
  for (int count = 0;; ++count) {
    if (parser.parse_head() == State::body) parser.parse_body();
    if (parser.state() != State::complete) return count;
    parser.next();
  }
}

void check_answer(const Reply& reply, const std::string& request) {
  const bool expected = reply.status == 200 || reply.status == 204 ||
                        (reply.status >= 400 && reply.status < 500) || reply.status == 503;
  EXPECT_TRUE(expected) << reply.status << " for " << request;
  EXPECT_TRUE(is_valid_utf8(reply.head + reply.body)) << request;
  if (reply.header("content-type") == "application/json" && !reply.body.empty()) {
    EXPECT_TRUE(parse_json(reply.body).ok()) << request << "\n" << reply.body;
  }
}

// Sends the request and nothing more, and takes what comes. HEAD may be among the mutations: its answers have
// no body.
void exchange(uint16_t port, const std::string& request) {
  Client client(port);
  ASSERT_TRUE(client.connected());
  client.send(request);
  const bool head = request.starts_with("HEAD");
  for (int left = count_requests(request); left > 0; --left) {
    const auto reply = client.receive_reply(kPatience, head);
    if (!reply) break;  // an earlier one ended the connection
    check_answer(*reply, request);
  }
  client.finish_sending();
  while (const auto reply = client.receive_reply(kPatience, head)) check_answer(*reply, request);
  ASSERT_TRUE(client.closed_by_server()) << request;
}

TEST(Malformed, TenThousandRequests) {
  constexpr uint64_t kSeed = 20260101;
  constexpr int kThreads = 4;
  TestServer server(test_options(), {"ok"});
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      SplitMix64 random(kSeed + static_cast<uint64_t>(t));
      for (int i = 0; i < 10'000 / kThreads; ++i) {
        const std::string request = random_request(random);
        SCOPED_TRACE("thread " + std::to_string(t) + ", round " + std::to_string(i));
        ASSERT_NO_FATAL_FAILURE(exchange(server.port(), request));
        if (i % 250 == 0) {
          ASSERT_EQ(server.get("/health").status, 200);
        }
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(eventually([&] { return server.metric("bifocal_http_open_connections{}") == 1; }));
  EXPECT_TRUE(eventually([&] {
    const auto stats = server.engine.stats();
    return stats->finished_requests + stats->aborted_requests == server.engine.submitted();
  }));
  EXPECT_EQ(server.engine.useless_aborts(), 0U);
  EXPECT_GT(server.engine.submitted(), 500U);  // many get through: the mutations are not all trivial
  EXPECT_EQ(server.post("/v1/completions", R"({"prompt":"a"})").status, 200);
}

// Well-formed HTTP around malformed JSON: always exactly one answer, and the connection stays.
TEST(Malformed, BodiesOnOneConnection) {
  TestServer server(test_options(), {"ok"});
  Client client(server.port());
  SplitMix64 random(7);
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    const Good& good = good_requests()[random.below(9)];
    std::string body = good.body;
    mutate(body, random, 1 + random.below(3));
    if (body.empty()) continue;
    client.send(make_request("POST", good.path, body));
    const auto reply = client.receive_reply();
    ASSERT_TRUE(reply.has_value()) << "round " << i << ": " << body;
    ASSERT_TRUE(reply->status == 200 || reply->status == 400) << reply->status << " for " << body;
    accepted += reply->status == 200 ? 1 : 0;
  }
  EXPECT_GT(accepted, 50);
  EXPECT_LT(accepted, 2000);
}

}  // namespace
}  // namespace bifocal::server
