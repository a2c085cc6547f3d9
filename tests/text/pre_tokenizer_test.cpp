#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

using Strings = std::vector<std::string>;

Strings pieces(const std::string& json, const std::string& text, bool starts_text = true) {
  const JsonValue document = parsed(json);
  const auto pre_tokenizer = PreTokenizer::from_json(&document);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status().message();
  PieceList list;
  list.text = text;
  list.starts_text = starts_text;
  const Status status = pre_tokenizer->apply(list);
  EXPECT_TRUE(status.ok()) << status.message();
  Strings out;
  for (size_t i = 0; i < list.pieces.size(); ++i) out.emplace_back(list.piece(i));
  return out;
}

std::string split(const std::string& pattern, const std::string& behavior, bool invert = false) {
  return R"({"type": "Split", "pattern": )" + pattern + R"(, "behavior": ")" + behavior + R"(", "invert": )" +
         (invert ? "true" : "false") + "}";
}

// Expected values are those of Hugging Face's tokenizers 0.23.
TEST(PreTokenizer, SplitBehaviors) {
  const std::string dash = R"({"String": "-"})";
  const std::string text = "the-final--countdown-";
  EXPECT_EQ(pieces(split(dash, "Removed"), text), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(pieces(split(dash, "Isolated"), text),
            (Strings{"the", "-", "final", "-", "-", "countdown", "-"}));
  EXPECT_EQ(pieces(split(dash, "MergedWithPrevious"), text), (Strings{"the-", "final-", "-", "countdown-"}));
  EXPECT_EQ(pieces(split(dash, "MergedWithNext"), text), (Strings{"the", "-final", "-", "-countdown", "-"}));
  EXPECT_EQ(pieces(split(dash, "Contiguous"), text), (Strings{"the", "-", "final", "--", "countdown", "-"}));
  EXPECT_EQ(pieces(split(R"({"Regex": "[a-z]+"})", "Removed", true), text),
            (Strings{"the", "final", "countdown"}));
}

TEST(PreTokenizer, ByteLevel) {
  const std::string plain = R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})";
  EXPECT_EQ(pieces(plain, "a é\n"), (Strings{"aĠÃ©Ċ"}));
  const std::string regex = R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})";
  EXPECT_EQ(pieces(regex, "Hello you're  123"), (Strings{"ĠHello", "Ġyou", "'re", "Ġ", "Ġ123"}));
  EXPECT_EQ(pieces(regex, " x"), (Strings{"Ġx"}));
  EXPECT_EQ(pieces(regex, ""), (Strings{}));
}

TEST(PreTokenizer, Characters) {
  EXPECT_EQ(pieces(R"({"type": "Digits", "individual_digits": true})", "a12½b"),
            (Strings{"a", "1", "2", "½", "b"}));
  EXPECT_EQ(pieces(R"({"type": "Digits", "individual_digits": false})", "a12b"), (Strings{"a", "12", "b"}));
  EXPECT_EQ(pieces(R"({"type": "Punctuation"})", "a,b!!c"), (Strings{"a", ",", "b", "!", "!", "c"}));
  EXPECT_EQ(pieces(R"({"type": "Punctuation", "behavior": "Contiguous"})", "a,b!!"),
            (Strings{"a", ",", "b", "!!"}));
  EXPECT_EQ(pieces(R"({"type": "Whitespace"})", "it's a-b  c"),
            (Strings{"it", "'", "s", "a", "-", "b", "c"}));
  EXPECT_EQ(pieces(R"({"type": "WhitespaceSplit"})", " a,b \n c"), (Strings{"a,b", "c"}));
}

TEST(PreTokenizer, Metaspace) {
  const auto json = [](const std::string& scheme, const std::string& split) {
    return R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": ")" + scheme + R"(", "split": )" +
           split + "}";
  };
  EXPECT_EQ(pieces(json("always", "true"), "a b  c"), (Strings{"▁a", "▁b", "▁", "▁c"}));
  EXPECT_EQ(pieces(json("always", "false"), "a b"), (Strings{"▁a▁b"}));
  EXPECT_EQ(pieces(json("first", "true"), "a b", true), (Strings{"▁a", "▁b"}));
  EXPECT_EQ(pieces(json("first", "true"), "a b", false), (Strings{"a", "▁b"}));
  EXPECT_EQ(pieces(json("never", "true"), "a b"), (Strings{"a", "▁b"}));
  EXPECT_EQ(pieces(json("always", "true"), " a"), (Strings{"▁a"}));
}

// Falcon's order: digits are found among the characters that stand for bytes.
TEST(PreTokenizer, Sequence) {
  const std::string json = R"({"type": "Sequence", "pretokenizers": [
    {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    {"type": "Digits", "individual_digits": false},
    {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": false}]})";
  EXPECT_EQ(pieces(json, "ab 12345, x"), (Strings{"ab", "Ġ", "123", "45", ",", "Ġx"}));
}

TEST(PreTokenizer, Errors) {
  const auto status = [](const std::string& json) {
    const JsonValue document = parsed(json);
    return PreTokenizer::from_json(&document).status();
  };
  EXPECT_EQ(status(R"({"type": "BertPreTokenizer"})").code(), StatusCode::unsupported);
  EXPECT_NE(status(R"({"type": "BertPreTokenizer"})").message().find("BertPreTokenizer"), std::string::npos);
  EXPECT_EQ(status(R"({"type": "Sequence", "pretokenizers": [{"type": "Nope"}]})")
                .message()
                .find("pre_tokenizer.pretokenizers[0]"),
            0u);
  EXPECT_EQ(status(split(R"({"Regex": "("})", "Isolated")).code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(split(R"({"String": ""})", "Isolated")).code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(split(R"({"String": "a"})", "Sideways")).code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(R"({"type": "Split", "behavior": "Isolated"})").code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(R"({"type": "Metaspace", "replacement": "ab"})").code(), StatusCode::invalid_argument);
  EXPECT_EQ(status("[]").code(), StatusCode::invalid_argument);
  EXPECT_EQ(status("{}").code(), StatusCode::invalid_argument);
  const std::string twice =
      R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "ByteLevel"}]})";
  EXPECT_EQ(status(twice).code(), StatusCode::unsupported);
}

}  // namespace
}  // namespace bifocal::text
