#include "text/incremental_decoder.h"

#include <utility>

#include "base/utf8.h"

namespace bifocal::text {

std::string IncrementalDecoder::push(TokenId id) {
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return "";
  std::string_view bytes = tokenizer_->token_bytes(id);
  if (bytes.empty()) return "";
  if (at_start_ && tokenizer_->strips_leading_space() && bytes.starts_with(' ')) bytes.remove_prefix(1);
  at_start_ = false;
  held_ += bytes;
  const size_t complete = held_.size() - static_cast<size_t>(incomplete_utf8_suffix(held_));
  std::string text = replace_invalid_utf8(std::string_view(held_).substr(0, complete));
  held_.erase(0, complete);
  return text;
}

std::string IncrementalDecoder::finish() {
  return replace_invalid_utf8(std::exchange(held_, {}));
}

}  // namespace bifocal::text
