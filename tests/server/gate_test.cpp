// Who gets in: hosts, origins, keys, routes, media types.
#include "server/gate.h"

#include <gtest/gtest.h>

#include "server/routes.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

TEST(Gate, EveryRouteNeedsAKeyExceptTheProbesAndThePage) {
  ServerOptions options = test_options();
  options.api_keys = {make_api_key("sesame"), make_api_key("other")};
  TestServer server(options);
  for (const Route& route : routes()) {
    const std::string path = std::string(route.path) + (route.is_prefix ? "fake" : "");
    const bool is_open = path == "/health" || path == "/ready" || path == "/";
    EXPECT_EQ(route.is_open, is_open) << path;
    const std::string body = route.method == "GET" ? "" : "{}";
    for (const std::string_view headers :
         {"", "Authorization: Bearer wrong\r\n", "X-Api-Key: wrong\r\n", "X-Api-Key:\r\n"}) {
      const auto reply = fetch(server.port(), route.method, path, body, headers);
      ASSERT_TRUE(reply.has_value());
      EXPECT_EQ(reply->status == 401, !is_open) << route.method << " " << path;
      if (is_open) continue;
      EXPECT_EQ(text_of(at(reply->json(), "error", "type")), "authentication_error");
      EXPECT_EQ(reply->header("www-authenticate"), "Bearer");
    }
    for (const std::string_view headers : {"Authorization: Bearer sesame\r\n", "X-Api-Key: other\r\n"}) {
      EXPECT_NE(fetch(server.port(), route.method, path, body, headers)->status, 401) << path;
    }
  }
}

TEST(Gate, NoSpellingOfAPathGetsAroundTheKey) {
  ServerOptions options = test_options();
  options.api_keys = {make_api_key("sesame")};
  TestServer server(options);
  for (const std::string_view path : {"//v1/models",
                                      "/v1/models/",
                                      "/v1//models",
                                      "/v1/./models",
                                      "/health/../v1/models",
                                      "/v1/../health",
                                      "/%76%31/models",
                                      "/v1%2fmodels",
                                      "/health/",
                                      "/healthx",
                                      "/health%00",
                                      "/HEALTH",
                                      "/nothing",
                                      "//",
                                      "/./",
                                      "/v1/models?x=/health",
                                      "/v1/models#/health",
                                      "/health/../metrics",
                                      "/ready/x",
                                      "*"}) {
    for (const std::string_view method :
         {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO"}) {
      const auto reply = fetch(server.port(), method, path);
      ASSERT_TRUE(reply.has_value()) << method << " " << path;
      EXPECT_EQ(reply->status, 401) << method << " " << path;
    }
  }
  EXPECT_EQ(server.get("/health?x=1").status, 200);
}

TEST(Gate, UnknownPathsAndMethods) {
  TestServer server;
  for (const std::string_view path : {"/nothing", "//", "/v1", "//health", "/health/", "/v1/models/"}) {
    const Reply reply = server.get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(text_of(at(reply.json(), "error", "type")), "not_found_error");
    EXPECT_EQ(text_of(at(reply.json(), "object")), "error");
  }
  const Reply reply = server.get("/v1/completions");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.header("allow"), "POST, OPTIONS");
  EXPECT_TRUE(reply.json().is_object());
  EXPECT_EQ(fetch(server.port(), "DELETE", "/health")->header("allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(fetch(server.port(), "OPTIONS", "/generate")->header("allow"), "POST, PUT, OPTIONS");
  EXPECT_EQ(fetch(server.port(), "OPTIONS", "/generate")->status, 204);
  EXPECT_EQ(fetch(server.port(), "HEAD", "/v1/models")->status, 200);
  EXPECT_EQ(fetch(server.port(), "HEAD", "/v1/models")->body, "");
  EXPECT_EQ(fetch(server.port(), "HEAD", "/flush_cache")->status, 405);  // a HEAD changes nothing
}

TEST(Gate, LoopbackServesLoopbackNamesOnly) {
  ServerOptions options = test_options();
  options.allowed_hosts = {"my.host"};
  TestServer server(options);
  const auto status = [&](std::string_view host) {
    Client client(server.port());
    client.send("GET /v1/models HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n");
    return client.receive_reply()->status;
  };
  for (const std::string_view host : {"localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:80",
                                      "LocalHost", "my.host", "MY.HOST:9"}) {
    EXPECT_EQ(status(host), 200) << host;
  }
  for (const std::string_view host :
       {"evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "[::2]",
        "localhost@evil.example", "my.host.evil", "0.0.0.0", "[", ":80", ""}) {
    EXPECT_EQ(status(host), 403) << host;
  }
}

TEST(Gate, OnlyJsonBodies) {
  TestServer server;
  const auto status = [&](std::string_view type_header) {
    Client client(server.port());
    client.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\n" + std::string(type_header) +
                "Content-Length: 14\r\n\r\n{\"prompt\":\"a\"}");
    return client.receive_reply()->status;
  };
  EXPECT_EQ(status("Content-Type: application/json\r\n"), 200);
  EXPECT_EQ(status("Content-Type: Application/JSON ; charset=utf-8\r\n"), 200);
  EXPECT_EQ(status(""), 415);
  EXPECT_EQ(status("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/jsonx\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/x-www-form-urlencoded\r\n"), 415);
}

TEST(Gate, WithoutABodyItsTypeIsOfNoMatter) {
  TestServer server;
  const auto status = [&](std::string_view headers) {
    Client client(server.port());
    client.send("POST /flush_cache HTTP/1.1\r\nHost: localhost\r\n" + std::string(headers) + "\r\n");
    return client.receive_reply()->status;
  };
  EXPECT_EQ(status("Content-Length: 0\r\n"), 200);
  EXPECT_EQ(status("Content-Type: application/octet-stream\r\nContent-Length: 0\r\n"), 200);
  // What a page from elsewhere may send unasked.
  EXPECT_EQ(status("Content-Type: text/plain\r\nContent-Length: 0\r\n"), 415);
}

TEST(Gate, OriginsAreAllowedByName) {
  ServerOptions options = test_options();
  options.allowed_origins = {"https://app.example"};
  options.api_keys = {make_api_key("sesame")};
  TestServer server(options);
  const Reply known = server.get("/health", "Origin: https://app.example\r\n");
  EXPECT_EQ(known.header("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(known.header("access-control-allow-credentials"), "");
  EXPECT_EQ(server.get("/health", "Origin: https://evil.example\r\n").header("access-control-allow-origin"),
            "");
  EXPECT_EQ(server.get("/v1/models", "Origin: https://app.example\r\n").header("access-control-allow-origin"),
            "https://app.example");  // also on the 401
  const std::string ask = "Access-Control-Request-Method: POST\r\n";
  const auto preflight =
      fetch(server.port(), "OPTIONS", "/v1/completions", "", "Origin: https://app.example\r\n" + ask);
  EXPECT_EQ(preflight->status, 204);
  EXPECT_EQ(preflight->header("access-control-allow-origin"), "https://app.example");
  EXPECT_NE(preflight->header("access-control-allow-headers").find("Authorization"), std::string::npos);
  const auto stranger =
      fetch(server.port(), "OPTIONS", "/v1/completions", "", "Origin: https://evil.example\r\n" + ask);
  EXPECT_EQ(stranger->header("access-control-allow-origin"), "");
  EXPECT_EQ(stranger->status, 401);
}

TEST(Gate, NoOriginIsAllowedUnlessToldTo) {
  TestServer server;
  EXPECT_EQ(server.get("/health", "Origin: http://localhost\r\n").header("access-control-allow-origin"), "");
}

TEST(Gate, KeysKeepTheirPrefixesAndRequestsApart) {
  ServerOptions options = test_options();
  options.api_keys = {make_api_key("one"), make_api_key("two")};
  TestServer server(options);
  const auto space = [&](std::string_view key, std::string_view body) {
    EXPECT_EQ(server.post("/v1/completions", body, "X-Api-Key: " + std::string(key) + "\r\n").status, 200);
    return server.engine.last_request().cache_namespace;
  };
  const uint64_t one = space("one", R"({"prompt":"p"})");
  EXPECT_EQ(space("one", R"({"prompt":"p"})"), one);
  EXPECT_NE(space("two", R"({"prompt":"p"})"), one);
  EXPECT_NE(space("two", R"({"prompt":"p","cache_salt":"s"})"),
            space("one", R"({"prompt":"p","cache_salt":"s"})"));

  server.engine.pause(true);
  Client waiting(server.port());
  waiting.send(make_request("POST", "/generate", R"({"text":"a","rid":"mine"})", "X-Api-Key: one\r\n"));
  ASSERT_TRUE(eventually([&] { return !server.engine.idle(); }));
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"mine"})", "X-Api-Key: two\r\n").body,
            R"({"success":true,"aborted":0})");
  EXPECT_EQ(server.post("/abort_request", R"({"abort_all":true})", "X-Api-Key: two\r\n").body,
            R"({"success":true,"aborted":0})");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"mine"})", "X-Api-Key: one\r\n").body,
            R"({"success":true,"aborted":1})");
  EXPECT_TRUE(waiting.receive_reply().has_value());
}

TEST(Gate, NoSecretLeavesTheServer) {
  ServerOptions options = test_options();
  const std::string secret = "marker-4711-secret";
  options.api_keys = {make_api_key(secret)};
  TestServer server(options);
  const std::string key = "Authorization: Bearer " + secret + "\r\n";
  for (const Route& route : routes()) {
    for (const std::string_view headers :
         {std::string_view(key), std::string_view("X-Api-Key: marker-4711-wrong\r\n")}) {
      const auto reply =
          fetch(server.port(), route.method, std::string(route.path) + (route.is_prefix ? "marker-4711" : ""),
                route.method == "GET" ? "" : R"({"text":"marker-4711"})", headers);
      ASSERT_TRUE(reply.has_value());
      EXPECT_EQ((reply->head + reply->body).find("marker-4711"), std::string::npos) << route.path;
    }
  }
}

TEST(Gate, AnOpenAddressNeedsKeysOrAnExplicitWord) {
  ServerOptions options = test_options();
  options.http.host = "0.0.0.0";
  const auto refused = Server::create(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::invalid_argument);
  options.api_keys = {make_api_key("k")};
  EXPECT_TRUE(Server::create(options).ok());
  options.api_keys.clear();
  options.insecure_no_auth = true;
  EXPECT_TRUE(Server::create(options).ok());
}

}  // namespace
}  // namespace bifocal::server
