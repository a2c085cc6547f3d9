#include "server/http/request_parser.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/hash.h"
#include "server/framing_corpus.h"

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

TEST(RequestParser, ReadsAWholeRequest) {
  const Outcome outcome =
      parse("POST /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-Name:  some value \r\nContent-Length: 3\r\n\r\nabc");
  ASSERT_EQ(outcome.requests.size(), 1U);
  EXPECT_EQ(outcome.requests[0], "POST /a/b?c=d 11\nhost=h\nx-name=some value\ncontent-length=3\n\nabc");
  EXPECT_FALSE(outcome.waiting);
}

TEST(RequestParser, ReadsPipelinedRequests) {
  const Outcome outcome = parse(get_request("") + chunked_request("2\r\nab\r\n0\r\n\r\n") + "\r\n" +
                                get_request("Connection: close\r\n"));
  EXPECT_EQ(outcome.failure, 0);
  ASSERT_EQ(outcome.requests.size(), 3U);
  EXPECT_TRUE(outcome.requests[1].ends_with("\n\nab"));
}

TEST(RequestParser, RefusesWhatOthersMightReadDifferently) {
  for (const FramingCase& c : framing_corpus()) {
    const Outcome outcome = parse(c.bytes);
    EXPECT_EQ(outcome.failure, c.status) << c.name;
    EXPECT_EQ(outcome.requests.size(), c.status == 0 ? 1U : 0U) << c.name;
  }
}

TEST(RequestParser, AnySplitGivesTheSameResult) {
  SplitMix64 random(1);
  for (const FramingCase& c : framing_corpus()) {
    const Outcome whole = parse(c.bytes);
    EXPECT_EQ(parse(c.bytes, {}, [] { return size_t{1}; }), whole) << c.name;
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(parse(c.bytes, {}, [&] { return 1 + random.below(9); }), whole) << c.name;
    }
  }
}

TEST(RequestParser, EveryPrefixOnlyWaitsOrFails) {
  for (const FramingCase& c : framing_corpus()) {
    for (size_t n = 0; n < c.bytes.size(); ++n) {
      const Outcome outcome = parse(std::string_view(c.bytes).substr(0, n));
      EXPECT_LE(outcome.requests.size(), 1U) << c.name << " cut at " << n;
    }
  }
}

TEST(RequestParser, TrailersAreNotHeaders) {
  const Outcome outcome = parse(chunked_request("2\r\nab\r\n0\r\nAuthorization: Bearer x\r\n\r\n"));
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
  EXPECT_EQ(parse(get_request(line(100)), limits).failure, 0);
  EXPECT_EQ(parse(get_request(line(101)), limits).failure, 431);
  EXPECT_EQ(parse("GET /" + std::string(86, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).failure, 0);
  EXPECT_EQ(parse("GET /" + std::string(87, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).failure, 414);
  EXPECT_EQ(parse(get_request("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n"), limits).failure, 0);
  EXPECT_EQ(parse(get_request("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n"), limits).failure, 431);
  EXPECT_EQ(parse(get_request(line(100) + line(100) + line(100)), limits).failure, 0);
  EXPECT_EQ(parse(get_request(line(100) + line(100) + line(100) + line(100)), limits).failure, 431);
  EXPECT_EQ(parse(std::string(1000, 'A'), limits).failure, 414);
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ";
  EXPECT_EQ(parse(post + "10\r\n\r\n0123456789", limits).failure, 0);
  EXPECT_EQ(parse(post + "11\r\n\r\n0123456789", limits).failure, 413);
  EXPECT_EQ(parse(chunked_request("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), limits).failure, 0);
  EXPECT_EQ(parse(chunked_request("5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n"), limits).failure, 413);
}

TEST(RequestParser, RefusesABodyOfTinyChunks) {
  std::string body;
  for (int i = 0; i < 200'000; ++i) body += "1\r\na\r\n";
  EXPECT_EQ(parse(chunked_request(body + "0\r\n\r\n")).failure, 400);
  std::string fair;
  for (int i = 0; i < 2000; ++i) fair += "64\r\n" + std::string(100, 'a') + "\r\n";
  EXPECT_EQ(parse(chunked_request(fair + "0\r\n\r\n")).requests.size(), 1U);
}

TEST(RequestParser, ChunkLinesAreBounded) {
  EXPECT_EQ(parse(chunked_request("2;" + std::string(20'000, 'a'))).failure, 400);
  EXPECT_EQ(parse(chunked_request("0\r\n" + std::string(20'000, 'a'))).failure, 400);
}

TEST(RequestParser, RandomBytesNeverCrash) {
  SplitMix64 random(2);
  const std::vector<FramingCase> cases = framing_corpus();
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
