// How much a client may send: heads, bodies, connections.
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kTokenize =
    "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

TEST(Limits, HeadsAreBounded) {
  TestServer server;
  const auto answer = [&](const std::string& bytes) {
    Client client(server.port());
    client.send(bytes);
    const auto reply = client.receive_reply();
    EXPECT_TRUE(client.closed_by_server());
    return reply ? reply->status : 0;
  };
  EXPECT_EQ(answer("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'a')), 431);
  EXPECT_EQ(answer("GET /" + std::string(100'000, 'a')), 414);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 101; ++i) many += "X: y\r\n";
  EXPECT_EQ(answer(many), 431);
  EXPECT_EQ(server.get("/health", "Range: bytes=0-,0-,0-,0-\r\n").status, 200);
}

TEST(Limits, EndlessHeadsCostNoMemory) {
  TestServer server;
  server.get("/health");
  const int64_t before = resident_bytes();
  for (int i = 0; i < 50; ++i) {
    Client client(server.port());
    const std::string block(65536, 'A');
    for (int k = 0; k < 32 && client.send(block); ++k) {
    }
  }
  if (!kSanitized) {
    EXPECT_LT(resident_bytes() - before, 8 << 20);
  }
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(Limits, BodiesAreBounded) {
  ServerOptions options = test_options();
  options.http.parser.max_body_bytes = 1000;
  TestServer server(options);
  const auto body = [](size_t size) { return R"({"prompt":")" + std::string(size - 13, 'a') + R"("})"; };
  EXPECT_EQ(server.post("/tokenize", body(999)).status, 200);
  EXPECT_EQ(server.post("/tokenize", body(1000)).status, 200);
  EXPECT_EQ(server.post("/tokenize", body(1001)).status, 413);
  Client liar(server.port());
  liar.send(std::string(kTokenize) + "Content-Length: 99999999\r\n\r\n");
  EXPECT_EQ(liar.receive_reply()->status, 413);  // before any of it was sent
  Client chunks(server.port());
  chunks.send(std::string(kTokenize) + "Transfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunks.send("64\r\n" + std::string(100, 'a') + "\r\n");
  EXPECT_EQ(chunks.receive_reply()->status, 413);
}

TEST(Limits, AllBodiesTogetherAreBounded) {
  ServerOptions options = test_options();
  options.http.max_total_body_bytes = 1000;
  TestServer server(options);
  Client half(server.port());
  half.send(std::string(kTokenize) + "Content-Length: 900\r\n\r\nx");
  const std::string body = R"({"prompt":")" + std::string(200, 'a') + R"("})";
  Reply reply;
  EXPECT_TRUE(eventually([&] { return (reply = server.post("/tokenize", body)).status == 503; }));
  EXPECT_EQ(reply.header("retry-after"), "1");
  half.close();
  EXPECT_TRUE(eventually([&] { return server.post("/tokenize", body).status == 200; }));
}

TEST(Limits, TooManyConnectionsAreTold) {
  ServerOptions options = test_options();
  options.http.max_connections = 4;
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(make_request("GET", "/health"));
    ASSERT_EQ(clients.back()->receive_reply()->status, 200);
  }
  Client extra(server.port());
  const auto reply = extra.receive_reply();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, 503);
  EXPECT_EQ(reply->header("retry-after"), "1");
  EXPECT_TRUE(extra.closed_by_server());
  clients.clear();
  EXPECT_TRUE(eventually([&] {
    const auto again = fetch(server.port(), "GET", "/health");
    return again && again->status == 200;
  }));
}

}  // namespace
}  // namespace bifocal::server
