// Byte-pair encoding with the vocabulary and merges of a tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/min_tree.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace bifocal::text {

// Pairs of ids and what they merge to: open addressing, sized once.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = MinTree::kNone;  // the line in the list of merges; lower merges first; kNone: no merge
    TokenId id = -1;
  };

  void reserve(size_t num_merges);
  // A later merge of the same pair replaces the earlier one.
  void set(TokenId left, TokenId right, Merge merge);
  Merge find(TokenId left, TokenId right) const;

 private:
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = UINT64_MAX;
  size_t slot_of(uint64_t key) const;

  std::vector<Slot> slots_;
};

class Bpe {
 public:
  // `model` of tokenizer.json; its strings are moved out. Adds its tokens to the vocabulary, which must
  // outlive this.
  static Expected<Bpe> from_json(JsonValue& model, Vocabulary& vocabulary);

  struct Symbol {
    TokenId id;
    TokenId merged;  // with the next symbol
    uint32_t previous;
    uint32_t next;
  };
  // Work space, reused between pieces.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<int32_t> ranks;  // of the merges with the next symbol
    MinTree tree;
  };

  // Appends the ids of one piece. n log n in the piece's characters.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  static constexpr uint32_t kDirectCharacters = 0x400;

  Status read_options(const JsonReader& reader);
  Status read_merges(JsonValue& merges);
  void index_characters();
  void append_symbols(std::string_view piece, std::vector<Symbol>& symbols) const;

  const Vocabulary* vocabulary_ = nullptr;
  MergeTable merges_;
  std::array<TokenId, kDirectCharacters> character_ids_ =
      {};                                   // tokens of one character below U+0400, -1: none
  std::array<TokenId, 256> byte_ids_ = {};  // <0x00> to <0xFF>
  TokenId unknown_ = -1;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace bifocal::text
