// Turns a growing sequence of tokens into text pieces that are always whole characters.
#pragma once

#include <string>

#include "text/tokenizer.h"

namespace bifocal::text {

class IncrementalDecoder {
 public:
  // tokenizer must outlive the decoder.
  IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that became final with this token; holds back at most 3 bytes of an unfinished character. The
  // pieces together are what Tokenizer::decode gives, except that broken runs of byte-fallback tokens become
  // one U+FFFD per ill-formed part, not per byte: which of the two a run needs is only known at its end.
  std::string push(TokenId id);
  // What was held back: U+FFFD for an unfinished character, else "".
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  bool at_start_ = true;  // nothing was decoded yet
  std::string held_;
};

}  // namespace bifocal::text
