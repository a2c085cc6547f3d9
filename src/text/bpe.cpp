#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/hash.h"
#include "base/utf8.h"
#include "text/json_access.h"

namespace bifocal::text {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

uint64_t pair_key(TokenId left, TokenId right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

Status read_vocabulary(JsonValue& vocab, Vocabulary& vocabulary) {
  if (!vocab.is_object()) return type_error("model.vocab", "object", vocab);
  auto& members = vocab.as_object();
  if (members.empty()) return invalid_argument("model.vocab: empty");
  vocabulary.reserve(members.size());
  for (auto& [token, id] : members) {
    if (!id.is_int()) return type_error("model.vocab", "integer ids", id);
    const Status status = vocabulary.add(std::move(token), id.as_int());
    if (!status.ok()) return status.with_context("model.vocab");
  }
  return {};
}

// Both spellings: "a b" and ["a", "b"].
Expected<std::pair<std::string_view, std::string_view>> read_pair(const JsonValue& merge) {
  if (merge.is_string()) {
    const std::string_view line = merge.as_string();
    const size_t space = line.find(' ');
    if (space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos) {
      return std::pair(line.substr(0, space), line.substr(space + 1));
    }
  } else if (merge.is_array() && merge.as_array().size() == 2 && merge.as_array()[0].is_string() &&
             merge.as_array()[1].is_string()) {
    return std::pair<std::string_view, std::string_view>(merge.as_array()[0].as_string(),
                                                         merge.as_array()[1].as_string());
  }
  return invalid_argument("expected two tokens, as \"a b\" or [\"a\", \"b\"]");
}

}  // namespace

void MergeTable::reserve(size_t num_merges) {
  slots_.assign(std::bit_ceil(std::max<size_t>(2, num_merges * 2)), {});
}

size_t MergeTable::slot_of(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = mix64(key) & mask;
  while (slots_[slot].key != key && slots_[slot].key != kFree) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::set(TokenId left, TokenId right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  slots_[slot_of(key)] = {key, merge};
}

MergeTable::Merge MergeTable::find(TokenId left, TokenId right) const {
  return slots_[slot_of(pair_key(left, right))].merge;
}

Expected<Bpe> Bpe::from_json(JsonValue& model, Vocabulary& vocabulary) {
  Bpe bpe;
  bpe.vocabulary_ = &vocabulary;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(model, "model"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto type, reader.get_string("type", 64));
  // Files of before the "type" member hold BPE as well.
  if (type && *type != "BPE") return unsupported(fmt::format("model.type: \"{}\", expected BPE", *type));
  JsonValue* vocab = nullptr;
  JsonValue* merges = nullptr;
  for (auto& [name, value] : model.as_object()) {
    if (name == "vocab") vocab = &value;
    if (name == "merges") merges = &value;
  }
  if (vocab == nullptr) return invalid_argument("model.vocab: missing");
  if (merges == nullptr) return invalid_argument("model.merges: missing");
  BIFOCAL_RETURN_IF_ERROR(read_vocabulary(*vocab, vocabulary));
  BIFOCAL_RETURN_IF_ERROR(bpe.read_options(reader));
  BIFOCAL_RETURN_IF_ERROR(bpe.read_merges(*merges));
  bpe.index_characters();
  return bpe;
}

Status Bpe::read_options(const JsonReader& reader) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto text, reader.get_string(key));
    if (text && !text->empty())
      return unsupported(fmt::format("{}: \"{}\", expected none", reader.path_of(key), *text));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto dropout, reader.get_number("dropout", 0.0, 1.0));
  if (dropout.value_or(0.0) != 0.0)
    return unsupported("model.dropout: expected 0, encoding must not be random");
  BIFOCAL_ASSIGN_OR_RETURN(fuse_unknown_, read_bool(reader, "fuse_unk", false));
  BIFOCAL_ASSIGN_OR_RETURN(byte_fallback_, read_bool(reader, "byte_fallback", false));
  BIFOCAL_ASSIGN_OR_RETURN(ignore_merges_, read_bool(reader, "ignore_merges", false));
  BIFOCAL_ASSIGN_OR_RETURN(const auto unknown, reader.get_string("unk_token"));
  if (unknown) {
    const auto id = vocabulary_->find(*unknown);
    if (!id) return invalid_argument("model.unk_token: not in model.vocab");
    unknown_ = *id;
  }
  if (byte_fallback_) {
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      const std::string token = fmt::format("<0x{:02X}>", byte);
      const auto id = vocabulary_->find(token);
      if (!id)
        return invalid_argument(fmt::format("model.vocab: byte_fallback is set but {} is missing", token));
      byte_ids_[byte] = *id;
    }
  }
  return {};
}

Status Bpe::read_merges(JsonValue& merges) {
  if (!merges.is_array()) return type_error("model.merges", "array", merges);
  const auto& lines = merges.as_array();
  merges_.reserve(lines.size());
  std::string merged;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto where = [&] { return fmt::format("model.merges[{}]", i); };
    const auto pair = read_pair(lines[i]);
    if (!pair) return pair.status().with_context(where());
    const auto [left_text, right_text] = *pair;
    merged.assign(left_text).append(right_text);
    const auto left = vocabulary_->find(left_text);
    const auto right = vocabulary_->find(right_text);
    const auto id = vocabulary_->find(merged);
    if (!left || !right || !id) {
      return invalid_argument(fmt::format("{}: \"{}\" is not in model.vocab", where(),
                                          !left    ? left_text
                                          : !right ? right_text
                                                   : merged));
    }
    merges_.set(*left, *right, {static_cast<int32_t>(i), *id});
  }
  return {};
}

void Bpe::index_characters() {
  std::string character;
  for (uint32_t c = 0; c < kDirectCharacters; ++c) {
    character.clear();
    append_utf8(character, c);
    character_ids_[c] = vocabulary_->find(character).value_or(-1);
  }
}

// One symbol per character; characters without a token fall back to bytes, or to the unknown token, or
// vanish.
void Bpe::append_symbols(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  while (!piece.empty()) {
    const Utf8Char c = decode_utf8(piece);
    const std::string_view character = piece.substr(0, static_cast<size_t>(c.length));
    piece.remove_prefix(character.size());
    const TokenId id = c.code_point < kDirectCharacters ? character_ids_[c.code_point]
                                                        : vocabulary_->find(character).value_or(-1);
    const bool fused = after_unknown && fuse_unknown_;
    after_unknown = false;
    if (id >= 0) {
      symbols.push_back({id, -1, 0, 0});
    } else if (byte_fallback_) {
      for (const char byte : character)
        symbols.push_back({byte_ids_[static_cast<unsigned char>(byte)], -1, 0, 0});
    } else if (unknown_ >= 0) {
      if (!fused) symbols.push_back({unknown_, -1, 0, 0});
      after_unknown = true;
    }
  }
}

// Merges the pair of lowest rank, the leftmost of equals, until no pair has a merge.
void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    if (const auto id = vocabulary_->find(piece)) return out.push_back(*id);
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  append_symbols(piece, symbols);
  if (symbols.empty()) return;

  const auto count = static_cast<uint32_t>(symbols.size());
  const auto rank_of = [&](Symbol& symbol) {
    const MergeTable::Merge merge =
        symbol.next == kNone ? MergeTable::Merge{} : merges_.find(symbol.id, symbols[symbol.next].id);
    symbol.merged = merge.id;
    return merge.rank;
  };
  scratch.ranks.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNone : i - 1;
    symbols[i].next = i + 1 == count ? kNone : i + 1;
    scratch.ranks[i] = rank_of(symbols[i]);
  }
  MinTree& tree = scratch.tree;
  tree.assign(scratch.ranks);
  for (size_t left = tree.argmin(); left != SIZE_MAX; left = tree.argmin()) {
    Symbol& symbol = symbols[left];
    const uint32_t right = symbol.next;
    symbol.id = symbol.merged;
    symbol.next = symbols[right].next;
    if (symbol.next != kNone) symbols[symbol.next].previous = static_cast<uint32_t>(left);
    tree.set(right, MinTree::kNone);
    tree.set(left, rank_of(symbol));
    if (symbol.previous != kNone) tree.set(symbol.previous, rank_of(symbols[symbol.previous]));
  }
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace bifocal::text
