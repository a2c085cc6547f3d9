// Over a socket: whatever the bytes of a request are, nothing in its body is taken for the next request.
#include <gtest/gtest.h>

#include "server/framing_corpus.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

const std::string kNext = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

// Sends it all at once and gives the statuses of the answers until the server closes.
std::vector<int> statuses(uint16_t port, const std::string& bytes) {
  Client client(port);
  client.send(bytes);
  std::vector<int> out;
  while (const auto reply = client.receive_reply()) out.push_back(reply->status);
  EXPECT_TRUE(client.closed_by_server());
  return out;
}

// The same framing, on routes that read the request to its end.
std::string on_served_routes(std::string bytes) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    const size_t at = bytes.find(from);
    if (at != std::string::npos) bytes.replace(at, from.size(), to);
  };
  replace("GET / ", "GET /health ");
  replace("POST / HTTP/1.1\r\n", "POST /tokenize HTTP/1.1\r\nContent-Type: application/json\r\n");
  replace("POST / HTTP/1.0\r\n", "POST /tokenize HTTP/1.0\r\nContent-Type: application/json\r\n");
  return bytes;
}

TEST(Smuggling, RefusedFramingEndsTheConnection) {
  ServerOptions options = test_options();
  options.allowed_hosts = {"a"};
  TestServer server(options);
  for (const http::FramingCase& c : http::framing_corpus()) {
    if (c.status == 0) continue;
    EXPECT_EQ(statuses(server.port(), on_served_routes(c.bytes) + kNext), std::vector<int>{c.status})
        << c.name;
  }
}

TEST(Smuggling, AcceptedFramingEndsWhereItSays) {
  ServerOptions options = test_options();
  options.allowed_hosts = {"a"};
  TestServer server(options);
  for (const http::FramingCase& c : http::framing_corpus()) {
    if (c.status != 0) continue;
    const std::string bytes = on_served_routes(c.bytes);
    std::vector<int> expected = {bytes.find("GET") == std::string::npos ? 400 : 200};  // "ab" is no JSON
    if (bytes.find("HTTP/1.0") == std::string::npos) expected.push_back(200);
    EXPECT_EQ(statuses(server.port(), bytes + kNext), expected) << c.name;
  }
}

// A body that looks like a request, behind a head that is refused before its body is read.
TEST(Smuggling, BodiesOfRefusedRequestsAreNotRequests) {
  TestServer server;
  const std::string length = "Content-Length: " + std::to_string(kNext.size()) + "\r\n\r\n";
  struct Case {
    std::string head;
    int status;
  };
  for (const Case& c : {Case{"POST /nothing HTTP/1.1\r\nHost: localhost\r\n", 404},
                        Case{"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n", 415},
                        Case{"POST /tokenize HTTP/1.1\r\nHost: evil.example\r\n", 403},
                        Case{"DELETE /tokenize HTTP/1.1\r\nHost: localhost\r\n", 405},
                        Case{"OPTIONS /tokenize HTTP/1.1\r\nHost: localhost\r\n", 204},
                        Case{"HEAD /tokenize HTTP/1.1\r\nHost: localhost\r\n", 405}}) {
    Client client(server.port());
    client.send(c.head + length + kNext);
    const std::string answer = client.receive_all();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(c.status))) << c.head << answer;
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << c.head << answer;
  }
}

TEST(Smuggling, BodiesThatNobodyReadsAreSkipped) {
  TestServer server;
  const std::string get = "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
  EXPECT_EQ(statuses(server.port(),
                     get + std::to_string(kNext.size()) + "\r\n\r\n" + kNext + get + "0\r\n\r\n" + kNext),
            (std::vector<int>{200, 200, 200}));
}

}  // namespace
}  // namespace bifocal::server
