// A byte-level tokenizer.json small enough to read: 256 byte tokens, a few merges, and whatever a test
// changes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace bifocal::text {

// Vocabulary: the byte characters (ids 0 to 255, in the order of their bytes), then "he", "ll", "hell",
// "hello", "Ġw", "Ġwo".
JsonValue small_tokenizer();

// Member access for tests: at(doc, "model", "vocab").
template <class... Keys>
JsonValue& at(JsonValue& json, std::string_view key, Keys... rest) {
  for (auto& [name, value] : json.as_object()) {
    if (name == key) {
      if constexpr (sizeof...(rest) == 0) {
        return value;
      } else {
        return at(value, rest...);
      }
    }
  }
  json.as_object().emplace_back(std::string(key), JsonValue(JsonValue::Object{}));
  if constexpr (sizeof...(rest) == 0) {
    return json.as_object().back().second;
  } else {
    return at(json.as_object().back().second, rest...);
  }
}

JsonValue parsed(const std::string& json);

JsonValue added_token(const std::string& content, int id, bool special);

// Loads, failing the test on an error.
std::unique_ptr<Tokenizer> load_tokenizer(const JsonValue& json);
Status load_status(const JsonValue& json);

std::vector<TokenId> encode(const Tokenizer& tokenizer, const std::string& text,
                            const EncodeOptions& options = {});
// The bytes of each token.
std::vector<std::string> tokens_of(const Tokenizer& tokenizer, const std::string& text,
                                   const EncodeOptions& options = {});

// Valid UTF-8 of many scripts, with spaces, marks, emoji and control characters.
std::string random_text(uint64_t seed, size_t characters);

}  // namespace bifocal::text
