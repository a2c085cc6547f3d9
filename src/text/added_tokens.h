// Tokens recognised in text before it is split into pieces: special ones ("<|im_start|>") and others
// ("<think>").
#pragma once

#include <array>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/normalizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace bifocal::text {

struct AddedToken {
  std::string content;  // normalised for those that are matched so; the vocabulary has it as written
  TokenId id = -1;
  bool special = false;
  bool single_word = false;  // not next to a word character
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // swallows white space after it
  bool normalized = true;    // matched in normalised text
};

// A part of a text: an added token, or text between them (id -1).
struct Section {
  ByteRange range;
  TokenId id = -1;
};

class AddedTokens {
 public:
  // `added_tokens` of tokenizer.json. Adds them to the vocabulary. Contents matched in normalised text are
  // normalised.
  static Expected<AddedTokens> from_json(const JsonValue* json, const Normalizer& normalizer,
                                         Vocabulary& vocabulary);

  // Which tokens are looked for: those not matched in normalised text, these and every special one, or those
  // matched in normalised text.
  enum class Stage { before_normalizer, before_normalizer_or_special, after_normalizer };
  // Whether a token may be recognised at a range of the text; asked for every match.
  using Allow = std::function<bool(const AddedToken& token, ByteRange range)>;

  // Cuts text into sections, leftmost token first, the longest at one place. Sections are never empty.
  void split(std::string_view text, Stage stage, const Allow& allow, std::vector<Section>& sections) const;

  bool has(Stage stage) const { return !matchers_[static_cast<size_t>(stage)].empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  bool is_special(TokenId id) const {
    return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[static_cast<size_t>(id)];
  }

 private:
  // A trie over bytes; children are a linked list of siblings, except below the root.
  class Matcher {
   public:
    void add(std::string_view content, size_t token);
    bool empty() const { return nodes_.empty(); }
    bool may_start(char byte) const { return roots_[static_cast<unsigned char>(byte)] != 0; }
    struct Match {
      size_t token;
      size_t length;  // in bytes
    };
    // The tokens that text, which is not empty, starts with; shortest first.
    void find(std::string_view text, std::vector<Match>& found) const;

   private:
    static constexpr uint32_t kNoToken = UINT32_MAX;
    struct Node {
      char byte;
      uint32_t child = 0;    // index in nodes_ plus one, 0: none
      uint32_t sibling = 0;  // the same
      uint32_t token = kNoToken;
    };
    std::vector<Node> nodes_;
    std::array<uint32_t, 256> roots_ = {};  // index in nodes_ plus one
  };

  Matcher& matcher(Stage stage) { return matchers_[static_cast<size_t>(stage)]; }

  std::vector<AddedToken> tokens_;
  std::vector<bool> special_;        // by id
  std::array<Matcher, 3> matchers_;  // by stage
};

}  // namespace bifocal::text
