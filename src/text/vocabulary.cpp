#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>

namespace bifocal::text {
namespace {

// Gaps of this many ids pass in small vocabularies; larger ones may be as large as the number of tokens.
constexpr size_t kFreeGap = 65536;
constexpr TokenId kFree = -1;

}  // namespace

void Vocabulary::reserve(size_t num_tokens) {
  capacity_hint_ = num_tokens;
  tokens_.reserve(num_tokens);
  present_.reserve(num_tokens);
  slots_.assign(std::bit_ceil(std::max<size_t>(16, num_tokens * 2)), kFree);
}

size_t Vocabulary::slot_of(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(token)&mask;
  while (slots_[slot] != kFree && tokens_[static_cast<size_t>(slots_[slot])] != token)
    slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow() {
  slots_.assign(std::max<size_t>(16, slots_.size() * 2), kFree);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (present_[id]) slots_[slot_of(tokens_[id])] = static_cast<TokenId>(id);
  }
}

Status Vocabulary::add(std::string token, int64_t id) {
  const size_t limit = 2 * std::max(capacity_hint_, num_tokens_ + 1) + kFreeGap;
  if (id < 0 || static_cast<uint64_t>(id) >= std::min<size_t>(limit, INT32_MAX)) {
    return invalid_argument(fmt::format("id {} is out of range, expected 0 to {} for {} tokens", id,
                                        limit - 1, std::max(capacity_hint_, num_tokens_ + 1)));
  }
  if (num_tokens_ * 2 >= slots_.size()) grow();
  const auto index = static_cast<size_t>(id);
  const size_t slot = slot_of(token);
  if (slots_[slot] == static_cast<TokenId>(id)) return {};
  if (slots_[slot] != kFree) {
    return invalid_argument(fmt::format("a token has two ids, {} and {}", slots_[slot], id));
  }
  if (index >= tokens_.size()) {
    tokens_.resize(index + 1);
    present_.resize(index + 1);
  }
  if (present_[index]) return invalid_argument(fmt::format("id {} is given to two tokens", id));
  slots_[slot] = static_cast<TokenId>(id);
  tokens_[index] = std::move(token);
  present_[index] = true;
  ++num_tokens_;
  return {};
}

std::optional<TokenId> Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const TokenId id = slots_[slot_of(token)];
  if (id == kFree) return std::nullopt;
  return id;
}

}  // namespace bifocal::text
