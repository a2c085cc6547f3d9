// The pre-tokenizer of tokenizer.json: cuts normalised text into the pieces that byte-pair encoding works on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

namespace bifocal::text {

// Pieces are ranges of one text, in order. A step replaces the ranges, the text, or both.
struct PieceList {
  std::string text;
  std::vector<ByteRange> pieces;  // never empty ranges
  bool starts_text = false;       // text begins where the encoded text begins

  std::string_view piece(size_t i) const {
    return std::string_view(text).substr(pieces[i].begin, pieces[i].end - pieces[i].begin);
  }
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual Status apply(PieceList& list) const = 0;
};

class PreTokenizer {
 public:
  // json may be null (the whole text is one piece). Split, ByteLevel, Digits, Punctuation, Whitespace,
  // WhitespaceSplit, Metaspace, Sequence; others are `unsupported`.
  static Expected<PreTokenizer> from_json(const JsonValue* json);

  // Sets list.pieces from list.text.
  Status apply(PieceList& list) const;

 private:
  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
};

}  // namespace bifocal::text
