#include "text/small_tokenizer.h"

#include <gtest/gtest.h>

#include <array>

#include "base/hash.h"
#include "base/utf8.h"
#include "text/byte_level.h"

namespace bifocal::text {

JsonValue parsed(const std::string& json) {
  auto value = parse_json(json);
  EXPECT_TRUE(value.ok()) << value.status().message();
  return value ? *value : JsonValue();
}

JsonValue small_tokenizer() {
  JsonValue::Object vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    append_byte_characters(token, std::string(1, static_cast<char>(byte)));
    vocab.emplace_back(token, JsonValue(byte));
  }
  int id = 256;
  for (const char* token : {"he", "ll", "hell", "hello", "Ġw", "Ġwo"})
    vocab.emplace_back(token, JsonValue(id++));
  JsonValue json = parsed(R"({
    "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "merges": ["h e", "l l", ["he", "ll"], "hell o", "Ġ w", "Ġw o"]}})");
  at(json, "model", "vocab") = JsonValue(std::move(vocab));
  return json;
}

JsonValue added_token(const std::string& content, int id, bool special) {
  return JsonValue(JsonValue::Object{{"id", JsonValue(id)},
                                     {"content", JsonValue(content)},
                                     {"single_word", JsonValue(false)},
                                     {"lstrip", JsonValue(false)},
                                     {"rstrip", JsonValue(false)},
                                     {"normalized", JsonValue(false)},
                                     {"special", JsonValue(special)}});
}

std::unique_ptr<Tokenizer> load_tokenizer(const JsonValue& json) {
  auto tokenizer = Tokenizer::from_json(to_json(json));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

Status load_status(const JsonValue& json) {
  return Tokenizer::from_json(to_json(json)).status();
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, const std::string& text,
                            const EncodeOptions& options) {
  auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status().message();
  return ids ? *ids : std::vector<TokenId>();
}

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, const std::string& text,
                                   const EncodeOptions& options) {
  std::vector<std::string> out;
  for (const TokenId id : encode(tokenizer, text, options)) out.emplace_back(tokenizer.token_bytes(id));
  return out;
}

std::string random_text(uint64_t seed, size_t characters) {
  struct Range {
    uint32_t first;
    uint32_t last;
  };
  static constexpr std::array<Range, 14> kRanges = {{{0x20, 0x7E},
                                                     {0x61, 0x7A},
                                                     {0x30, 0x39},
                                                     {0x20, 0x20},
                                                     {0x09, 0x0D},
                                                     {0xA0, 0x17F},
                                                     {0x300, 0x36F},
                                                     {0x370, 0x52F},
                                                     {0x590, 0x6FF},
                                                     {0x900, 0x97F},
                                                     {0x2000, 0x206F},
                                                     {0x4E00, 0x9FFF},
                                                     {0x1F300, 0x1FAFF},
                                                     {0x0, 0x10FFFF}}};
  SplitMix64 random(seed);
  std::string out;
  for (size_t i = 0; i < characters; ++i) {
    const Range range = kRanges[random.below(kRanges.size())];
    // Surrogates come out as U+FFFD.
    append_utf8(out, range.first + static_cast<uint32_t>(random.below(range.last - range.first + 1)));
  }
  return out;
}

}  // namespace bifocal::text
