// Hugging Face tokenizer.json (byte-level BPE): text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::text {

using TokenId = int32_t;

// Half-open range of bytes of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

struct EncodeOptions {
  // Apply the post-processor (a BOS token, for example).
  bool add_special_tokens = true;
  // Added tokens marked `special` are recognised in the text. When false, user text such as "<|im_start|>"
  // becomes ordinary tokens.
  bool parse_special = true;
  // With parse_special: special tokens are not recognised where they overlap one of these ranges (sorted,
  // disjoint): the parts of a rendered chat that came from the user. Special tokens are then looked for in
  // the text as given, also those that a tokenizer.json wants matched in normalised text.
  std::span<const ByteRange> plain_ranges = {};
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Errors: data_loss or invalid_argument naming the field of tokenizer.json; unsupported for other model
  // types.
  static Expected<std::unique_ptr<Tokenizer>> load(const std::string& path);
  static Expected<std::unique_ptr<Tokenizer>> from_json(std::string_view json);

  // text must be valid UTF-8. Linear or n log n in its length.
  virtual Expected<std::vector<TokenId>> encode(std::string_view text,
                                                const EncodeOptions& options = {}) const = 0;

  // Ids outside the vocabulary decode to nothing. Invalid UTF-8 becomes U+FFFD.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const = 0;

  // The bytes a token stands for, not necessarily whole characters; empty for ids outside the vocabulary.
  virtual std::string_view token_bytes(TokenId id) const = 0;
  virtual bool is_special(TokenId id) const = 0;
  virtual std::optional<TokenId> token_id(
      std::string_view token) const = 0;  // exact vocabulary or added token
  virtual int vocab_size() const = 0;     // one more than the largest id
  // Without added tokens, where the tokenizer tells them apart.
  virtual int base_vocab_size() const { return vocab_size(); }
  // Decoded text loses one space at its beginning (vocabularies that mark words with a leading U+2581).
  virtual bool strips_leading_space() const { return false; }
};

}  // namespace bifocal::text
