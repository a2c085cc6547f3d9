// The token strings of a model and their ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace bifocal::text {

// Ids need not be contiguous, but a file whose ids leave most of the range empty is refused: tables are sized
// by the largest id.
class Vocabulary {
 public:
  // Room for num_tokens, to be called once before add().
  void reserve(size_t num_tokens);

  // Errors: an id below zero, too large or taken; a token that is there already with another id. Adding the
  // same pair again is fine.
  Status add(std::string token, int64_t id);

  std::optional<TokenId> find(std::string_view token) const;
  // Empty for ids without a token.
  std::string_view token(TokenId id) const {
    return contains(id) ? std::string_view(tokens_[static_cast<size_t>(id)]) : "";
  }
  bool contains(TokenId id) const { return id >= 0 && id < size() && present_[static_cast<size_t>(id)]; }
  int size() const { return static_cast<int>(tokens_.size()); }  // one more than the largest id

 private:
  size_t slot_of(std::string_view token) const;  // where the token is, or the free slot where it belongs
  void grow();

  std::vector<std::string> tokens_;  // by id
  std::vector<bool> present_;        // by id
  std::vector<TokenId> slots_;       // open addressing, -1: free; a power of two, at most half full
  size_t num_tokens_ = 0;
  size_t capacity_hint_ = 0;
};

}  // namespace bifocal::text
