#include "server/http/exchange.h"

#include <gtest/gtest.h>

namespace bifocal::server::http {
namespace {

Request get_request(int version = 11) {
  Request request;
  request.method = "GET";
  request.version = version;
  return request;
}

std::string taken(Exchange& exchange) {
  std::string out;
  exchange.take_output(out);
  exchange.output_sent();
  return out;
}

TEST(Exchange, AnswersOnce) {
  int wakes = 0;
  Exchange exchange(get_request(), {}, [&] { ++wakes; });
  Response response;
  response.body = "{}";
  EXPECT_TRUE(exchange.respond(response));
  EXPECT_EQ(wakes, 1);
  EXPECT_FALSE(exchange.respond(response));
  EXPECT_FALSE(exchange.write("data: x\n\n"));
  EXPECT_TRUE(exchange.finished());
  const std::string out = taken(exchange);
  EXPECT_TRUE(out.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_NE(out.find("Content-Length: 2\r\n"), std::string::npos);
  EXPECT_NE(out.find("X-Request-Id: " + exchange.id()), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\n{}"));
}

TEST(Exchange, HeadAnswersHaveTheLengthButNoBody) {
  Request request = get_request();
  request.method = "HEAD";
  Exchange exchange(std::move(request), {}, [] {});
  Response response;
  response.body = "1234567";
  exchange.respond(response);
  const std::string out = taken(exchange);
  EXPECT_NE(out.find("Content-Length: 7\r\n"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\n"));
}

TEST(Exchange, AStreamThatFailsBeforeItsFirstEventGetsAStatus) {
  Exchange exchange(get_request(), {}, [] {});
  exchange.begin_stream();
  Response response;
  response.status = 504;
  EXPECT_TRUE(exchange.respond(response));
  EXPECT_TRUE(taken(exchange).starts_with("HTTP/1.1 504 "));
}

TEST(Exchange, StreamsInChunks) {
  Exchange exchange(get_request(), {}, [] {});
  exchange.begin_stream();
  std::string out;
  EXPECT_FALSE(exchange.take_output(out));  // no head before the first event
  EXPECT_TRUE(exchange.write("data: 1\n\n"));
  EXPECT_FALSE(exchange.respond({}));
  EXPECT_TRUE(exchange.write("data: 2\n\n"));
  exchange.end_stream();
  out = taken(exchange);
  EXPECT_NE(out.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_NE(out.find("Content-Type: text/event-stream\r\n"), std::string::npos);
  EXPECT_NE(out.find("Cache-Control: no-store\r\n"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"));
}

TEST(Exchange, OldClientsGetTheStreamUntilTheConnectionEnds) {
  Exchange exchange(get_request(10), {}, [] {});
  exchange.begin_stream();
  exchange.write("data: 1\n\n");
  exchange.end_stream();
  const std::string out = taken(exchange);
  EXPECT_EQ(out.find("chunked"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\ndata: 1\n\n"));
  EXPECT_FALSE(exchange.keep_alive());
}

TEST(Exchange, SaysWhenTheClientIsSlow) {
  ExchangeOptions options;
  options.max_unsent_bytes = 1000;
  Exchange exchange(get_request(), options, [] {});
  int room = 0;
  exchange.on_writable([&] { ++room; });
  exchange.write(std::string(600, 'x'));
  EXPECT_TRUE(exchange.writable());
  exchange.write(std::string(600, 'x'));
  EXPECT_FALSE(exchange.writable());
  std::string out;
  exchange.take_output(out);
  EXPECT_FALSE(exchange.writable());  // taken, but not sent
  EXPECT_EQ(room, 0);
  exchange.output_sent();
  EXPECT_TRUE(exchange.writable());
  EXPECT_EQ(room, 1);
}

TEST(Exchange, TellsOfADisconnectOnce) {
  Exchange exchange(get_request(), {}, [] {});
  int calls = 0;
  exchange.on_disconnect([&] { ++calls; });
  exchange.disconnect(DisconnectReason::client_gone);
  exchange.disconnect(DisconnectReason::client_stalled);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(exchange.disconnect_reason(), DisconnectReason::client_gone);
  EXPECT_FALSE(exchange.respond({}));
  exchange.on_disconnect([&] { ++calls; });  // too late: told at once
  EXPECT_EQ(calls, 2);
}

TEST(Exchange, ADisconnectAfterTheAnswerIsNobodysBusiness) {
  Exchange exchange(get_request(), {}, [] {});
  int calls = 0;
  exchange.on_disconnect([&] { ++calls; });
  exchange.respond({});
  exchange.disconnect(DisconnectReason::client_gone);
  EXPECT_EQ(calls, 0);
}

TEST(Exchange, PingsASilentStream) {
  Exchange exchange(get_request(), {}, [] {});
  const auto later = std::chrono::steady_clock::now() + std::chrono::seconds(16);
  exchange.tick(later);  // no stream yet
  std::string out;
  EXPECT_FALSE(exchange.take_output(out));
  exchange.begin_stream();
  exchange.tick(later);
  EXPECT_TRUE(taken(exchange).ends_with("8\r\n: ping\n\n\r\n"));
  exchange.tick(later + std::chrono::seconds(1));
  EXPECT_FALSE(exchange.take_output(out));
}

TEST(Exchange, FiresItsDeadlineOnce) {
  Exchange exchange(get_request(), {}, [] {});
  int calls = 0;
  const auto when = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  exchange.on_deadline(when, [&] { ++calls; });
  exchange.tick(when - std::chrono::seconds(1));
  EXPECT_EQ(calls, 0);
  exchange.tick(when);
  exchange.tick(when + std::chrono::seconds(1));
  EXPECT_EQ(calls, 1);
}

TEST(Exchange, NothingWakesADetachedOne) {
  int wakes = 0;
  Exchange exchange(get_request(), {}, [&] { ++wakes; });
  exchange.detach();
  EXPECT_FALSE(exchange.respond({}));
  EXPECT_FALSE(exchange.write("x"));
  exchange.end_stream();
  EXPECT_EQ(wakes, 0);
}

}  // namespace
}  // namespace bifocal::server::http
