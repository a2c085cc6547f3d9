// Streams: incremental decoding, stop strings and reasoning give the same result however the text is cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/utf8.h"
#include "text/incremental_decoder.h"
#include "text/reasoning_parser.h"
#include "text/small_tokenizer.h"
#include "text/stop_matcher.h"

namespace bifocal::text {
namespace {

// Cuts between any two bytes (or characters), at random.
std::vector<std::string> random_chunks(SplitMix64& random, const std::string& text, bool whole_characters) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.size(), at + random.below(6));
    while (whole_characters && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
      ++end;
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

TEST(IncrementalDecoder, NeverEmitsHalfACharacter) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SplitMix64 random(seed);
    std::vector<TokenId> ids;
    if (seed % 2 == 0) {
      ids = encode(*tokenizer, random_text(seed, 40));
    } else {
      for (int i = 0; i < 60; ++i) ids.push_back(static_cast<TokenId>(random.below(262)));
    }
    IncrementalDecoder decoder(*tokenizer, false);
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = decoder.push(id);
      ASSERT_TRUE(is_valid_utf8(piece));
      text += piece;
    }
    const std::string rest = decoder.finish();
    ASSERT_TRUE(is_valid_utf8(rest));
    ASSERT_EQ(text + rest, tokenizer->decode(ids, false)) << "seed " << seed;
    EXPECT_EQ(decoder.finish(), "");
  }
}

TEST(IncrementalDecoder, HoldsBackAndFlushes) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  IncrementalDecoder decoder(*tokenizer, false);
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push(0xBD), "");
  EXPECT_EQ(decoder.push(0xA0), "\u4f60");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push('a'), "\uFFFDa");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

// The definition: the first end of any stop in the text, the longest stop that ends there.
std::pair<std::string, std::string> slow_stop(const std::string& text, const std::vector<std::string>& stops,
                                              bool keep) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string found;
    for (const std::string& stop : stops) {
      if (stop.size() > found.size() && std::string_view(text).substr(0, end).ends_with(stop)) found = stop;
    }
    if (!found.empty()) return {text.substr(0, keep ? end : end - found.size()), found};
  }
  return {text, ""};
}

TEST(StopMatcher, AnyChunkingGivesTheDefinition) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SplitMix64 random(seed);
    const auto letters = [&](size_t n) {
      std::string out;
      for (; n > 0; --n) out += "ab"[random.below(2)];
      return out;
    };
    std::vector<std::string> stops;
    for (uint64_t n = random.below(4); n > 0; --n) stops.push_back(letters(random.below(7)));
    const std::string text = letters(random.below(40));
    const bool keep = random.below(2) == 0;
    const auto [want_text, want_stop] = slow_stop(text, stops, keep);
    StopMatcher matcher(stops, keep);
    std::string got;
    std::string matched;
    for (const std::string& chunk : random_chunks(random, text, false)) {
      const auto result = matcher.push(chunk);
      got += result.text;
      if (result.matched) matched = *result.matched;
      ASSERT_TRUE(want_text.starts_with(got)) << "seed " << seed;
    }
    if (matched.empty()) got += matcher.finish();
    ASSERT_EQ(got, want_text) << "seed " << seed;
    ASSERT_EQ(matched, want_stop) << "seed " << seed;
  }
}

TEST(StopMatcher, ReleasesAtOnceWhatCannotMatch) {
  StopMatcher matcher({"\n\nUser:", "</s>"});
  EXPECT_EQ(matcher.push("hello").text, "hello");
  EXPECT_EQ(matcher.push("a\n").text, "a");
  EXPECT_EQ(matcher.push("b").text, "\nb");
  EXPECT_EQ(matcher.push("\n\nUs").text, "");
  EXPECT_EQ(matcher.push("e").text, "");
  EXPECT_EQ(matcher.push("x").text, "\n\nUsex");
  EXPECT_EQ(matcher.push("<").text, "");
  const auto result = matcher.push("/s>tail");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.matched, "</s>");
  EXPECT_EQ(matcher.push("more").text, "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, OverlappingPrefixes) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aaa").text, "a");  // "aa" may go on to "aab"
  EXPECT_EQ(matcher.push("b").matched, "aab");
  StopMatcher both({"ab", "xab"});
  EXPECT_EQ(both.push("xab").matched, "xab");
  StopMatcher none({""});
  EXPECT_EQ(none.push("anything").text, "anything");
}

struct Split {
  std::string reasoning;
  std::string content;
  bool operator==(const Split&) const = default;
};
void PrintTo(const Split& s, std::ostream* out) {
  *out << "{" << s.reasoning << "|" << s.content << "}";
}

Split parse(const std::string& name, bool starts, const std::vector<std::string>& chunks) {
  auto parser = ReasoningParser::create(name, starts);
  EXPECT_TRUE(parser.ok()) << parser.status().message();
  Split out;
  const auto add = [&](const ReasoningDelta& delta) {
    out.reasoning += delta.reasoning;
    out.content += delta.content;
  };
  for (const std::string& chunk : chunks) add((*parser)->push(chunk));
  add((*parser)->finish());
  return out;
}

Split parse(const std::string& name, bool starts, const std::string& text) {
  return parse(name, starts, std::vector{text});
}

TEST(ReasoningParser, SplitsReasoningFromContent) {
  EXPECT_EQ(parse("qwen3", false, "<think>\nhm, so\n</think>\n\nThe answer."),
            (Split{"hm, so", "The answer."}));
  EXPECT_EQ(parse("qwen3", true, "hm\n\nso\n</think>\n\nThe answer.\n"),
            (Split{"hm\n\nso", "The answer.\n"}));
  EXPECT_EQ(parse("qwen3", true, "<think>\nhm</think>x"), (Split{"hm", "x"}));
  EXPECT_EQ(parse("qwen3", false, "No thoughts."), (Split{"", "No thoughts."}));
  EXPECT_EQ(parse("qwen3", false, "<think>\n\n</think>\n\nx"), (Split{"", "x"}));
  EXPECT_EQ(parse("qwen3", false, " \n<think>a</think>b"), (Split{"a", "b"}));
  EXPECT_EQ(parse("qwen3", false, "<think>cut off\n"), (Split{"cut off", ""}));
  EXPECT_EQ(parse("qwen3", false, "a <think> in the text</think>"),
            (Split{"", "a <think> in the text</think>"}));
  EXPECT_EQ(parse("qwen3", true, "a</think>b</think>c"), (Split{"a", "b</think>c"}));
  EXPECT_EQ(parse("qwen3", true, "a\n<tool_call>{}</tool_call>"), (Split{"a", "<tool_call>{}</tool_call>"}));
  EXPECT_EQ(parse("qwen3", false, "<thin"), (Split{"", "<thin"}));
  EXPECT_EQ(parse("qwen3", false, "  "), (Split{"", "  "}));
  EXPECT_EQ(parse("deepseek-r1", false, "hm</think>x"), (Split{"hm", "x"}));
  EXPECT_EQ(parse("deepseek-r1", false, "<think>hm</think>x"), (Split{"hm", "x"}));
  EXPECT_EQ(parse("kimi", false, "◁think▷hm◁/think▷x"), (Split{"hm", "x"}));
}

TEST(ReasoningParser, AnyChunkingGivesTheSame) {
  const std::vector<std::string> parts = {"<think>", "</think>",    "\n", "\n\n",   "a",       " ",       "<",
                                          "</thin",  "<tool_call>", "é",  "think>", "◁think▷", "◁/think▷"};
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SplitMix64 random(seed);
    std::string text;
    for (uint64_t n = random.below(12); n > 0; --n) text += parts[random.below(parts.size())];
    const auto names = ReasoningParser::names();
    const std::string name(names[random.below(names.size())]);
    const bool starts = random.below(2) == 0;
    ASSERT_EQ(parse(name, starts, random_chunks(random, text, true)), parse(name, starts, text))
        << "seed " << seed << " " << name << " " << text;
  }
}

TEST(ReasoningParser, UnknownNamesAreListed) {
  const auto parser = ReasoningParser::create("nope", false);
  EXPECT_EQ(parser.status().code(), StatusCode::invalid_argument);
  EXPECT_NE(parser.status().message().find("qwen3"), std::string::npos);
}

// Reasoning is shown as it comes, not at its end.
TEST(ReasoningParser, StreamsReasoning) {
  auto parser = ReasoningParser::create("qwen3", false);
  ASSERT_TRUE(parser.ok());
  EXPECT_EQ((*parser)->push("<thi").reasoning, "");
  EXPECT_EQ((*parser)->push("nk>\n").reasoning, "");
  EXPECT_EQ((*parser)->push("one ").reasoning, "one ");
  EXPECT_EQ((*parser)->push("two\n").reasoning, "two");
  EXPECT_EQ((*parser)->push("three</").reasoning, "\nthree");
  const ReasoningDelta last = (*parser)->push("think>\n\nfour");
  EXPECT_EQ(last.reasoning, "");
  EXPECT_EQ(last.content, "four");
}

}  // namespace
}  // namespace bifocal::text
