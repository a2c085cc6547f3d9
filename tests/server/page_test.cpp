// GET / and what feeds it. The page itself is tested in a browser: tests/web.
#include <gtest/gtest.h>

#include "server/server_fixture.h"
#include "server/sha256.h"

namespace bifocal::server {
namespace {

std::string between(const std::string& text, std::string_view begin, std::string_view end) {
  const size_t from = text.find(begin) + begin.size();
  return text.substr(from, text.find(end, from) - from);
}

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    have += 6;
    if (have >= 8) out += static_cast<char>(bits >> (have -= 8) & 255U);
  }
  return out;
}

TEST(PageRoute, IsOneDocumentThatOnlyItsOwnScriptMayActIn) {
  TestServer server;
  const Reply reply = server.get("/");
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("content-type"), "text/html; charset=utf-8");
  const std::string policy(reply.header("content-security-policy"));
  EXPECT_NE(policy.find("default-src 'none'"), std::string::npos) << policy;
  for (const char* tag : {"script", "style"}) {
    const std::string content =
        between(reply.body, "<" + std::string(tag) + ">", "</" + std::string(tag) + ">");
    EXPECT_GT(content.size(), 1000U) << tag;
    const Sha256 expected = sha256(content);
    EXPECT_EQ(from_base64(between(policy, std::string(tag) + "-src 'sha256-", "'")),
              std::string(expected.begin(), expected.end()))
        << tag;
  }
  for (const char* outside : {"http://", "https://", "//cdn", "src=\"/"}) {
    std::string body = reply.body;
    for (const char* name_space : {"http://www.w3.org/2000/svg"}) {
      for (size_t at = 0; (at = body.find(name_space)) != std::string::npos;) {
        body.erase(at, std::string_view(name_space).size());
      }
    }
    EXPECT_EQ(body.find(outside), std::string::npos) << outside;
  }
}

TEST(PageRoute, NeedsNoKeyButItsFiguresDo) {
  ServerOptions options = test_options();
  options.api_keys = {make_api_key("secret")};
  TestServer server(options);
  EXPECT_EQ(server.get("/").status, 200);
  EXPECT_EQ(server.get("/live").status, 401);
  EXPECT_EQ(server.get("/live", "Authorization: Bearer secret\r\n").status, 200);
}

TEST(PageRoute, FiguresAreThoseOfTheServer) {
  TestServer server;
  ASSERT_EQ(server.post("/v1/completions", R"({"prompt":"hello","max_tokens":3})").status, 200);
  JsonValue live;
  const auto count = [&](std::string_view histogram) {
    int64_t sum = 0;
    const Reply reply = server.get("/live");
    live = *parse_json(reply.body);
    const auto& counts = at(live, histogram, "counts").as_array();
    EXPECT_EQ(counts.size(), at(live, histogram, "bounds").as_array().size() + 1);
    for (const JsonValue& each : counts) sum += each.as_int();
    return sum;
  };
  EXPECT_EQ(count("ttft"), 1);
  EXPECT_EQ(count("itl"), 2);
  EXPECT_EQ(text_of(at(live, "state")), "ready");
  EXPECT_EQ(text_of(at(live, "model")), server.context->served_model_name);
  EXPECT_TRUE(at(live, "engine", "running_requests").is_int());
  EXPECT_TRUE(at(live, "kv", 0, "free_pages").is_int());
  EXPECT_TRUE(at(live, "attention").is_array());
}

TEST(PageRoute, WhileTheModelLoads) {
  ServerOptions options = test_options();
  auto server = Server::create(options);
  ASSERT_TRUE(server.ok());
  (*server)->start();
  const auto get = [&](std::string_view path) {
    Client client((*server)->port());
    client.send("GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return *client.receive_reply();
  };
  EXPECT_EQ(get("/").status, 200);
  const Reply live = get("/live");
  EXPECT_EQ(live.status, 200);
  EXPECT_EQ(text_of(at(*parse_json(live.body), "state")), "starting");
  EXPECT_TRUE(at(*parse_json(live.body), "engine").is_null());
}

}  // namespace
}  // namespace bifocal::server
