#include "server/http/request_parser.h"

#include <gtest/gtest.h>

#include "base/hash.h"

namespace bifocal::server::http {
namespace {

using State = RequestParser::State;

// What became of the bytes: a failure's status, or the requests in them.
struct Outcome {
  int failure = 0;
  bool waiting = false;  // more bytes are expected
  std::vector<std::string> requests;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome parse(std::string_view bytes, const ParserLimits& limits, const std::function<size_t()>& next_piece) {
  RequestParser parser(limits);
  Outcome outcome;
  for (;;) {
    for (;;) {
      if (parser.state() == State::head) parser.parse_head();
      if (parser.state() == State::body) parser.parse_body();
      if (parser.state() != State::complete) break;
      Request& r = parser.request();
      std::string text = r.method + " " + r.path + "?" + r.query + " " + std::to_string(r.version) + "\n";
      for (const Header& h : r.headers) text += h.name + "=" + h.value + "\n";
      outcome.requests.push_back(text + "\n" + r.body);
      parser.next();
    }
    if (parser.state() == State::failed) {
      outcome.failure = parser.failure().status;
      return outcome;
    }
    if (bytes.empty()) break;
    const size_t piece = std::min(bytes.size(), next_piece());
    parser.append(bytes.substr(0, piece));
    bytes.remove_prefix(piece);
  }
  outcome.waiting = parser.state() == State::body || parser.buffered_bytes() > 0;
  return outcome;
}

Outcome parse(std::string_view bytes, const ParserLimits& limits = {}) {
  return parse(bytes, limits, [&] { return bytes.size(); });
}

std::string get(std::string_view headers) {
  return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(headers) + "\r\n";
}
std::string chunked(std::string_view body) {
  return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(body);
}

TEST(RequestParser, ReadsAWholeRequest) {
  const Outcome outcome =
      parse("POST /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-Name:  some value \r\nContent-Length: 3\r\n\r\nabc");
  ASSERT_EQ(outcome.requests.size(), 1U);
  EXPECT_EQ(outcome.requests[0], "POST /a/b?c=d 11\nhost=h\nx-name=some value\ncontent-length=3\n\nabc");
  EXPECT_FALSE(outcome.waiting);
}

TEST(RequestParser, ReadsPipelinedRequests) {
  const Outcome outcome =
      parse(get("") + chunked("2\r\nab\r\n0\r\n\r\n") + "\r\n" + get("Connection: close\r\n"));
  EXPECT_EQ(outcome.failure, 0);
  ASSERT_EQ(outcome.requests.size(), 3U);
  EXPECT_TRUE(outcome.requests[1].ends_with("\n\nab"));
}

struct Case {
  std::string name;
  std::string bytes;
  int status;  // of the failure; 0: accepted
};

std::vector<Case> corpus() {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  std::vector<Case> cases = {
      {"plain", get(""), 0},
      {"length and chunked", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
      {"two different lengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"two equal lengths", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
      {"list of lengths", post + "Content-Length: 1, 1\r\n\r\na", 400},
      {"length +1", post + "Content-Length: +1\r\n\r\na", 400},
      {"length -1", post + "Content-Length: -1\r\n\r\na", 400},
      {"length 0x1", post + "Content-Length: 0x1\r\n\r\na", 400},
      {"length 1 1", post + "Content-Length: 1 1\r\n\r\na", 400},
      {"length empty", post + "Content-Length:\r\n\r\na", 400},
      {"length 2^64", post + "Content-Length: 18446744073709551616\r\n\r\na", 400},
      {"length 10^18", post + "Content-Length: 1000000000000000000\r\n\r\na", 413},
      {"gzip, chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked, gzip", post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400},
      {"identity", post + "Transfer-Encoding: identity\r\n\r\n", 400},
      {"xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n", 400},
      {"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       400},
      {"chunked, chunked", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked with vertical tab", post + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"capitals", post + "Transfer-Encoding: ChUnKeD\r\n\r\n0\r\n\r\n", 0},
      {"space before colon", get("X : y\r\n"), 400},
      {"tab before colon", get("X\t: y\r\n"), 400},
      {"folded line", get("X: y\r\n z\r\n"), 400},
      {"folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare LF in the middle", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
      {"bare CR in a value", get("X: a\rb\r\n"), 400},
      {"CR CR LF", get("X: a\r\r\n"), 400},
      {"NUL in a value", get(std::string("X: a\0b\r\n", 8)), 400},
      {"NUL in the target", std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29), 400},
      {"DEL in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"high byte in the target", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"no name", get(": y\r\n"), 400},
      {"no colon", get("X y\r\n"), 400},
      {"brackets in a name", get("X[y]: z\r\n"), 400},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", get("Host: b\r\n"), 400},
      {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 0},
      {"absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT target", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n\r\n", 400},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400},
      {"lower case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"leading space", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"one empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00", 7), 400},
      {"unknown expectation", get("Expect: 200-ok\r\n"), 417},
      {"chunk size -2", chunked("-2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 0x2", chunked("0x2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size +2", chunked("+2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size empty", chunked("\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 17 digits", chunked("10000000000000000\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 0_2", chunked("0_2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size with space", chunked(" 2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size too large", chunked("fffffffffffffff\r\nab\r\n0\r\n\r\n"), 413},
      {"chunk not ended", chunked("2\r\nabXX0\r\n\r\n"), 400},
      {"chunk ended by LF", chunked("2\r\nab\n0\r\n\r\n"), 400},
      {"chunk line ended by LF", chunked("2\nab\r\n0\r\n\r\n"), 400},
      {"chunk extension", chunked("2;a=b\r\nab\r\n0\r\n\r\n"), 0},
      {"chunk extension with control", chunked("2;a=\"\x01\"\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk extension malformed", chunked("2;=\r\nab\r\n0\r\n\r\n"), 400},
      {"trailer", chunked("2\r\nab\r\n0\r\nX: y\r\n\r\n"), 0},
      {"length in a trailer", chunked("2\r\nab\r\n0\r\nContent-Length: 5\r\n\r\n"), 400},
  };
  return cases;
}

TEST(RequestParser, RefusesWhatOthersMightReadDifferently) {
  for (const Case& c : corpus()) {
    const Outcome outcome = parse(c.bytes);
    EXPECT_EQ(outcome.failure, c.status) << c.name;
    EXPECT_EQ(outcome.requests.size(), c.status == 0 ? 1U : 0U) << c.name;
  }
}

TEST(RequestParser, AnySplitGivesTheSameResult) {
  SplitMix64 random(1);
  for (const Case& c : corpus()) {
    const Outcome whole = parse(c.bytes);
    EXPECT_EQ(parse(c.bytes, {}, [] { return size_t{1}; }), whole) << c.name;
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(parse(c.bytes, {}, [&] { return 1 + random.below(9); }), whole) << c.name;
    }
  }
}

TEST(RequestParser, EveryPrefixOnlyWaitsOrFails) {
  for (const Case& c : corpus()) {
    for (size_t n = 0; n < c.bytes.size(); ++n) {
      const Outcome outcome = parse(std::string_view(c.bytes).substr(0, n));
      EXPECT_LE(outcome.requests.size(), 1U) << c.name << " cut at " << n;
    }
  }
}

TEST(RequestParser, TrailersAreNotHeaders) {
  const Outcome outcome = parse(chunked("2\r\nab\r\n0\r\nAuthorization: Bearer x\r\n\r\n"));
  ASSERT_EQ(outcome.requests.size(), 1U);
  EXPECT_EQ(outcome.requests[0].find("authorization"), std::string::npos);
}

TEST(RequestParser, LimitsAreExact) {
  ParserLimits limits;
  limits.max_line_bytes = 100;
  limits.max_head_bytes = 400;
  limits.max_headers = 5;
  limits.max_body_bytes = 10;
  const auto line = [](size_t length) { return "X: " + std::string(length - 3, 'y') + "\r\n"; };
  EXPECT_EQ(parse(get(line(100)), limits).failure, 0);
  EXPECT_EQ(parse(get(line(101)), limits).failure, 431);
  EXPECT_EQ(parse("GET /" + std::string(86, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).failure, 0);
  EXPECT_EQ(parse("GET /" + std::string(87, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).failure, 414);
  EXPECT_EQ(parse(get("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n"), limits).failure, 0);
  EXPECT_EQ(parse(get("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n"), limits).failure, 431);
  EXPECT_EQ(parse(get(line(100) + line(100) + line(100)), limits).failure, 0);
  EXPECT_EQ(parse(get(line(100) + line(100) + line(100) + line(100)), limits).failure, 431);
  EXPECT_EQ(parse(std::string(1000, 'A'), limits).failure, 414);
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ";
  EXPECT_EQ(parse(post + "10\r\n\r\n0123456789", limits).failure, 0);
  EXPECT_EQ(parse(post + "11\r\n\r\n0123456789", limits).failure, 413);
  EXPECT_EQ(parse(chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), limits).failure, 0);
  EXPECT_EQ(parse(chunked("5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n"), limits).failure, 413);
}

TEST(RequestParser, RefusesABodyOfTinyChunks) {
  std::string body;
  for (int i = 0; i < 200'000; ++i) body += "1\r\na\r\n";
  EXPECT_EQ(parse(chunked(body + "0\r\n\r\n")).failure, 400);
  std::string fair;
  for (int i = 0; i < 2000; ++i) fair += "64\r\n" + std::string(100, 'a') + "\r\n";
  EXPECT_EQ(parse(chunked(fair + "0\r\n\r\n")).requests.size(), 1U);
}

TEST(RequestParser, ChunkLinesAreBounded) {
  EXPECT_EQ(parse(chunked("2;" + std::string(20'000, 'a'))).failure, 400);
  EXPECT_EQ(parse(chunked("0\r\n" + std::string(20'000, 'a'))).failure, 400);
}

TEST(RequestParser, RandomBytesNeverCrash) {
  SplitMix64 random(2);
  const std::vector<Case> cases = corpus();
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = cases[random.below(cases.size())].bytes + cases[random.below(cases.size())].bytes;
    for (uint64_t edits = random.below(4); edits > 0 && !bytes.empty(); --edits) {
      const size_t where = random.below(bytes.size());
      switch (random.below(3)) {
        case 0:
          bytes[where] = static_cast<char>(random.below(256));
          break;
        case 1:
          bytes.erase(where, random.below(8));
          break;
        default:
          bytes.insert(where, 1, static_cast<char>(random.below(256)));
      }
    }
    const Outcome whole = parse(bytes);
    EXPECT_EQ(parse(bytes, {}, [&] { return 1 + random.below(30); }), whole) << "seed 2, round " << i;
  }
}

}  // namespace
}  // namespace bifocal::server::http
