#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text/goldens.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

using Strings = std::vector<std::string>;

TEST(Tokenizer, EncodesAndDecodes) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  EXPECT_EQ(tokens_of(*tokenizer, "hello world"), (Strings{"hello", " wo", "r", "l", "d"}));
  EXPECT_EQ(encode(*tokenizer, "hello"), (std::vector<TokenId>{259}));
  EXPECT_EQ(tokenizer->vocab_size(), 262);
  EXPECT_EQ(tokenizer->token_id("hello"), 259);
  EXPECT_EQ(tokenizer->token_id("Ġw"), 260);
  EXPECT_EQ(tokenizer->token_id("nope"), std::nullopt);
  EXPECT_EQ(tokenizer->token_bytes(260), " w");
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{259, 260}, false), "hello w");
  EXPECT_TRUE(encode(*tokenizer, "").empty());
}

TEST(Tokenizer, IdsOutsideTheVocabularyDecodeToNothing) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{-1, 259, 262, INT32_MAX, INT32_MIN}, false), "hello");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(1 << 20), "");
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_FALSE(tokenizer->is_special(1 << 20));
}

TEST(Tokenizer, TextMustBeUtf8) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  for (const char* bad : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80"}) {
    EXPECT_EQ(tokenizer->encode(bad).status().code(), StatusCode::invalid_argument);
  }
}

TEST(Tokenizer, BrokenCharactersDecodeToReplacementCharacters) {
  const auto tokenizer = load_tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{0xE4, 0xBD, 'a'}, false), "\uFFFDa");
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{0xE4, 0xBD, 0xA0}, false), "\u4f60");
}

class AddedTokensTest : public testing::Test {
 protected:
  static JsonValue with_tokens(JsonValue::Array tokens) {
    JsonValue json = small_tokenizer();
    at(json, "added_tokens") = JsonValue(std::move(tokens));
    return json;
  }
};

TEST_F(AddedTokensTest, LeftmostThenLongest) {
  const auto tokenizer = load_tokenizer(with_tokens(
      {added_token("<a", 300, false), added_token("<a>", 301, false), added_token("a>b", 302, false)}));
  EXPECT_EQ(encode(*tokenizer, "<a>b"), (std::vector<TokenId>{301, 'b'}));
  EXPECT_EQ(encode(*tokenizer, "<ab"), (std::vector<TokenId>{300, 'b'}));
  EXPECT_EQ(encode(*tokenizer, "a>b"), (std::vector<TokenId>{302}));
}

TEST_F(AddedTokensTest, SpecialTokensAreSkippedAndSwitchedOff) {
  const auto tokenizer =
      load_tokenizer(with_tokens({added_token("<|end|>", 300, true), added_token("<think>", 301, false)}));
  EXPECT_EQ(encode(*tokenizer, "a<|end|><think>"), (std::vector<TokenId>{'a', 300, 301}));
  EXPECT_TRUE(tokenizer->is_special(300));
  EXPECT_FALSE(tokenizer->is_special(301));
  const std::vector<TokenId> ids = {'a', 300, 301, 'b'};
  EXPECT_EQ(tokenizer->decode(ids, true), "a<think>b");
  EXPECT_EQ(tokenizer->decode(ids, false), "a<|end|><think>b");
  // As ordinary text the special token gives other ids, and the same text back.
  const auto plain = encode(*tokenizer, "a<|end|><think>", {.parse_special = false});
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 300), 0);
  EXPECT_EQ(plain.back(), 301);
  EXPECT_EQ(tokenizer->decode(plain, false), "a<|end|><think>");
}

TEST_F(AddedTokensTest, PlainRangesHideSpecialTokensOfTheUser) {
  const auto tokenizer =
      load_tokenizer(with_tokens({added_token("<|s|>", 300, true), added_token("<|s|>x", 301, true)}));
  const std::string text = "<|s|>a<|s|>b<|s|>";
  const auto specials = [&](std::vector<ByteRange> ranges) {
    std::vector<TokenId> out;
    for (const TokenId id : encode(*tokenizer, text, {.plain_ranges = ranges})) {
      if (id >= 300) out.push_back(id);
    }
    return out.size();
  };
  EXPECT_EQ(specials({}), 3u);
  EXPECT_EQ(specials({{5, 12}}), 2u);           // all of "a<|s|>b"
  EXPECT_EQ(specials({{5, 6}, {11, 12}}), 3u);  // next to the tokens, not on them
  EXPECT_EQ(specials({{10, 11}}), 2u);          // the last byte of the middle one
  EXPECT_EQ(specials({{4, 7}}), 1u);            // parts of two
  EXPECT_EQ(specials({{0, text.size()}}), 0u);
  // A longer token that runs into the user's text leaves the shorter one alone.
  const std::vector<ByteRange> after = {{5, 6}};
  EXPECT_EQ(encode(*tokenizer, "<|s|>x", {.plain_ranges = after}), (std::vector<TokenId>{300, 'x'}));
  EXPECT_EQ(encode(*tokenizer, "<|s|>x"), (std::vector<TokenId>{301}));
}

TEST_F(AddedTokensTest, PlainRangesHoldForNormalizedTokensToo) {
  JsonValue token = added_token("<s>", 300, true);
  at(token, "normalized") = JsonValue(true);
  JsonValue json = with_tokens({token});
  at(json, "normalizer") = parsed(R"({"type": "NFC"})");
  const auto tokenizer = load_tokenizer(json);
  EXPECT_EQ(encode(*tokenizer, "<s>e\u0301<s>"), (std::vector<TokenId>{300, 0xC3, 0xA9, 300}));
  const std::vector<ByteRange> user = {{3, 9}};
  EXPECT_EQ(encode(*tokenizer, "<s>e\u0301<s>", {.plain_ranges = user}),
            (std::vector<TokenId>{300, 0xC3, 0xA9, '<', 's', '>'}));
}

TEST(Tokenizer, PostProcessors) {
  JsonValue json = small_tokenizer();
  at(json, "added_tokens") =
      JsonValue(JsonValue::Array{added_token("<s>", 300, true), added_token("</s>", 301, true)});
  at(json, "post_processor") = parsed(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
     "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}}]})");
  auto tokenizer = load_tokenizer(json);
  EXPECT_EQ(encode(*tokenizer, "a"), (std::vector<TokenId>{300, 'a'}));
  EXPECT_EQ(encode(*tokenizer, "a", {.add_special_tokens = false}), (std::vector<TokenId>{'a'}));
  at(json, "post_processor") =
      parsed(R"({"type": "RobertaProcessing", "sep": ["</s>", 301], "cls": ["<s>", 300]})");
  tokenizer = load_tokenizer(json);
  EXPECT_EQ(encode(*tokenizer, "a"), (std::vector<TokenId>{300, 'a', 301}));
}

// decode(encode(x)) == x, for every byte-level tokenizer that does not normalise its text.
TEST(Tokenizer, RoundTrip) {
  const auto small = load_tokenizer(small_tokenizer());
  for (const char* name : {"llama3", "deepseek"}) {
    auto tokenizer = Tokenizer::load(golden_directory(name) + "/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (uint64_t seed = 0; seed < 300; ++seed) {
      const std::string text = random_text(seed, 1 + seed % 97);
      ASSERT_EQ((*tokenizer)->decode(encode(**tokenizer, text, {.add_special_tokens = false}), false), text)
          << name << " " << seed;
      ASSERT_EQ(small->decode(encode(*small, text), false), text) << seed;
    }
  }
}

TEST(Tokenizer, ErrorsNameFileAndField) {
  EXPECT_EQ(Tokenizer::load("/nowhere/tokenizer.json").status().code(), StatusCode::not_found);
  EXPECT_FALSE(Tokenizer::from_json("").ok());
  EXPECT_FALSE(Tokenizer::from_json("{").ok());
  EXPECT_EQ(Tokenizer::from_json("[]").status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(Tokenizer::from_json("{}").status().message(), "model: missing");
  JsonValue json = small_tokenizer();
  at(json, "model", "type") = JsonValue("Unigram");
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
  EXPECT_NE(load_status(json).message().find("Unigram"), std::string::npos);
  json = small_tokenizer();
  at(json, "decoder") = parsed(R"({"type": "WordPiece", "prefix": "##"})");
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
  json = small_tokenizer();
  at(json, "decoder") = JsonValue();
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
  json = small_tokenizer();
  at(json, "post_processor") = parsed(R"({"type": "Nope"})");
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
  json = small_tokenizer();
  at(json, "model", "continuing_subword_prefix") = JsonValue("##");
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
  json = small_tokenizer();
  at(json, "model", "dropout") = JsonValue(0.1);
  EXPECT_EQ(load_status(json).code(), StatusCode::unsupported);
}

}  // namespace
}  // namespace bifocal::text
