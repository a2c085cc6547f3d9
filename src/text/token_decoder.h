// The decoder of tokenizer.json: what text each token stands for.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace bifocal::text {

class TokenDecoder {
 public:
  // ByteLevel, ByteFallback, Replace, Metaspace, Fuse, Strip of leading spaces after Fuse, Sequence; others
  // are `unsupported`.
  static Expected<TokenDecoder> from_json(const JsonValue* json);

  struct Piece {
    std::string bytes;
    bool is_byte = false;  // a byte-fallback token: one byte of a character
  };
  Piece piece(std::string_view token) const;

  // The decoded text loses one space at its beginning.
  bool strips_leading_space() const { return strips_leading_space_; }

 private:
  struct Replacement {
    std::string from;
    std::string to;
  };
  Status add(const JsonValue& json, const std::string& path);
  Status add_strip(const JsonReader& reader);
  Status add_metaspace(const JsonReader& reader);

  std::vector<Replacement> replacements_;
  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fused_ = false;
  bool strips_leading_space_ = false;
};

}  // namespace bifocal::text
