#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/hash.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

// The definition: merge the pair that comes first in the list of merges, the leftmost of those, until none is
// left.
std::vector<std::string> slow_encode(const std::vector<std::pair<std::string, std::string>>& merges,
                                     const std::string& text) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  while (true) {
    size_t best_rank = std::numeric_limits<size_t>::max();
    size_t best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < merges.size() && rank < best_rank; ++rank) {
        if (merges[rank].first == symbols[i] && merges[rank].second == symbols[i + 1]) {
          best_rank = rank;
          best = i;
        }
      }
    }
    if (best_rank == std::numeric_limits<size_t>::max()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// Random vocabularies over three letters, where merges compete all the time.
TEST(Bpe, AgreesWithTheDefinition) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SplitMix64 random(seed);
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    while (tokens.size() < 40) {
      const std::string left = tokens[random.below(tokens.size())];
      const std::string right = tokens[random.below(tokens.size())];
      if (std::find(merges.begin(), merges.end(), std::pair(left, right)) != merges.end()) continue;
      merges.emplace_back(left, right);
      if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end())
        tokens.push_back(left + right);
    }
    JsonValue::Object vocab;
    for (size_t i = 0; i < tokens.size(); ++i) vocab.emplace_back(tokens[i], JsonValue(static_cast<int>(i)));
    JsonValue::Array lines;
    for (const auto& [left, right] : merges) lines.emplace_back(JsonValue(left + " " + right));
    JsonValue model(JsonValue::Object{
        {"type", JsonValue("BPE")}, {"vocab", JsonValue(vocab)}, {"merges", JsonValue(lines)}});
    Vocabulary vocabulary;
    const auto bpe = Bpe::from_json(model, vocabulary);
    ASSERT_TRUE(bpe.ok()) << bpe.status().message();
    Bpe::Scratch scratch;
    for (int i = 0; i < 30; ++i) {
      std::string text;
      for (size_t n = random.below(120); n > 0; --n) text += static_cast<char>('a' + random.below(3));
      std::vector<TokenId> ids;
      bpe->encode(text, scratch, ids);
      std::vector<std::string> got;
      for (const TokenId id : ids) got.emplace_back(vocabulary.token(id));
      ASSERT_EQ(got, slow_encode(merges, text)) << "seed " << seed << ", " << text;
    }
  }
}

std::vector<std::string> encode_with(const std::string& model_json, const std::string& text) {
  JsonValue model = parsed(model_json);
  Vocabulary vocabulary;
  const auto bpe = Bpe::from_json(model, vocabulary);
  EXPECT_TRUE(bpe.ok()) << bpe.status().message();
  Bpe::Scratch scratch;
  std::vector<TokenId> ids;
  bpe->encode(text, scratch, ids);
  std::vector<std::string> out;
  for (const TokenId id : ids) out.emplace_back(vocabulary.token(id));
  return out;
}

using Strings = std::vector<std::string>;

TEST(Bpe, UnknownCharacters) {
  const std::string vocab = R"("vocab": {"a": 0, "b": 1, "?": 2, "ab": 3}, "merges": [["a", "b"]])";
  EXPECT_EQ(encode_with(R"({"type": "BPE", )" + vocab + "}", "aéb"), (Strings{"ab"}));
  EXPECT_EQ(encode_with(R"({"type": "BPE", "unk_token": "?", )" + vocab + "}", "aééb"),
            (Strings{"a", "?", "?", "b"}));
  EXPECT_EQ(encode_with(R"({"type": "BPE", "unk_token": "?", "fuse_unk": true, )" + vocab + "}", "aééb"),
            (Strings{"a", "?", "b"}));
}

TEST(Bpe, IgnoreMergesPrefersTheWholePiece) {
  const std::string vocab = R"("vocab": {"a": 0, "b": 1, "abb": 2}, "merges": [])";
  EXPECT_EQ(encode_with(R"({"type": "BPE", "ignore_merges": true, )" + vocab + "}", "abb"), (Strings{"abb"}));
  EXPECT_EQ(encode_with(R"({"type": "BPE", )" + vocab + "}", "abb"), (Strings{"a", "b", "b"}));
}

}  // namespace
}  // namespace bifocal::text
