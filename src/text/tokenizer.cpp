#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoder.h"
#include "text/vocabulary.h"

namespace bifocal::text {
namespace {

// The largest published files have some 35 MB, 260,000 tokens and 500,000 merges (two or three values each).
constexpr uint64_t kMaxFileBytes = uint64_t{128} << 20;
constexpr JsonLimits kFileLimits = {
    .max_depth = 32, .max_bytes = kMaxFileBytes, .max_values = uint64_t{4} << 20};
constexpr size_t kMaxTextBytes = size_t{1} << 30;

bool touches(std::span<const ByteRange> ranges, ByteRange range) {
  const auto after =
      std::partition_point(ranges.begin(), ranges.end(), [&](ByteRange r) { return r.end <= range.begin; });
  return after != ranges.end() && after->begin < range.end;
}

class JsonTokenizer : public Tokenizer {
 public:
  Status read(JsonValue& document);

  Expected<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;
  std::string_view token_bytes(TokenId id) const override;
  bool is_special(TokenId id) const override { return added_.is_special(id); }
  std::optional<TokenId> token_id(std::string_view token) const override { return vocabulary_.find(token); }
  int vocab_size() const override { return vocabulary_.size(); }
  int base_vocab_size() const override { return base_vocab_size_; }
  bool strips_leading_space() const override { return decoder_.strips_leading_space(); }

 private:
  using Stage = AddedTokens::Stage;
  struct Work {
    PieceList list;
    Bpe::Scratch bpe;
    std::vector<Section> sections;
  };
  Status encode_between(std::string_view text, bool starts_text, const AddedTokens::Allow& allow, Work& work,
                        std::vector<TokenId>& ids) const;
  Status encode_pieces(std::string text, bool starts_text, Work& work, std::vector<TokenId>& ids) const;

  Vocabulary vocabulary_;
  int base_vocab_size_ = 0;
  Normalizer normalizer_;
  AddedTokens added_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  PostProcessor post_processor_;
  TokenDecoder decoder_;
  std::vector<TokenDecoder::Piece> pieces_;  // by id
};

Status JsonTokenizer::read(JsonValue& document) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(document));
  JsonValue* model = nullptr;
  for (auto& [name, value] : document.as_object()) {
    if (name == "model") model = &value;
  }
  if (model == nullptr) return invalid_argument("model: missing");
  BIFOCAL_ASSIGN_OR_RETURN(bpe_, Bpe::from_json(*model, vocabulary_));
  base_vocab_size_ = vocabulary_.size();
  BIFOCAL_ASSIGN_OR_RETURN(normalizer_, Normalizer::from_json(reader.find("normalizer")));
  BIFOCAL_ASSIGN_OR_RETURN(added_,
                           AddedTokens::from_json(reader.find("added_tokens"), normalizer_, vocabulary_));
  BIFOCAL_ASSIGN_OR_RETURN(pre_tokenizer_, PreTokenizer::from_json(reader.find("pre_tokenizer")));
  BIFOCAL_ASSIGN_OR_RETURN(post_processor_,
                           PostProcessor::from_json(reader.find("post_processor"), vocabulary_));
  BIFOCAL_ASSIGN_OR_RETURN(decoder_, TokenDecoder::from_json(reader.find("decoder")));
  pieces_.reserve(static_cast<size_t>(vocabulary_.size()));
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    pieces_.push_back(decoder_.piece(vocabulary_.token(id)));
  }
  for (const AddedToken& token : added_.tokens()) {
    pieces_[static_cast<size_t>(token.id)] = decoder_.piece(token.content);
  }
  return {};
}

Expected<std::vector<TokenId>> JsonTokenizer::encode(std::string_view text,
                                                     const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return invalid_argument(
        fmt::format("the text has {} bytes, expected at most {}", text.size(), kMaxTextBytes));
  }
  if (!is_valid_utf8(text)) return invalid_argument("the text is not valid UTF-8");
  // With plain ranges every special token is looked for in the text as given, where the ranges lie.
  const bool ranged = options.parse_special && !options.plain_ranges.empty();
  const AddedTokens::Allow in_given = [&](const AddedToken& token, ByteRange range) {
    return !token.special || (options.parse_special && !touches(options.plain_ranges, range));
  };
  const AddedTokens::Allow in_normalized = [&](const AddedToken& token, ByteRange) {
    return !token.special || (options.parse_special && !ranged);
  };
  Work work;
  std::vector<TokenId> ids;
  std::vector<Section> sections;
  added_.split(text, ranged ? Stage::before_normalizer_or_special : Stage::before_normalizer, in_given,
               sections);
  for (const Section& section : sections) {
    if (section.id >= 0) {
      ids.push_back(section.id);
      continue;
    }
    const std::string_view part = text.substr(section.range.begin, section.range.end - section.range.begin);
    BIFOCAL_RETURN_IF_ERROR(encode_between(part, section.range.begin == 0, in_normalized, work, ids));
  }
  if (options.add_special_tokens) post_processor_.apply(ids);
  return ids;
}

// Text between tokens that are matched before normalisation.
Status JsonTokenizer::encode_between(std::string_view text, bool starts_text, const AddedTokens::Allow& allow,
                                     Work& work, std::vector<TokenId>& ids) const {
  std::string normalized(text);
  BIFOCAL_RETURN_IF_ERROR(normalizer_.apply(normalized));
  if (!added_.has(Stage::after_normalizer))
    return encode_pieces(std::move(normalized), starts_text, work, ids);
  added_.split(normalized, Stage::after_normalizer, allow, work.sections);
  for (const Section& section : work.sections) {
    if (section.id >= 0) {
      ids.push_back(section.id);
      continue;
    }
    BIFOCAL_RETURN_IF_ERROR(
        encode_pieces(normalized.substr(section.range.begin, section.range.end - section.range.begin),
                      starts_text && section.range.begin == 0, work, ids));
  }
  return {};
}

Status JsonTokenizer::encode_pieces(std::string text, bool starts_text, Work& work,
                                    std::vector<TokenId>& ids) const {
  work.list.text = std::move(text);
  work.list.starts_text = starts_text;
  BIFOCAL_RETURN_IF_ERROR(pre_tokenizer_.apply(work.list));
  for (size_t i = 0; i < work.list.pieces.size(); ++i) bpe_.encode(work.list.piece(i), work.bpe, ids);
  return {};
}

std::string_view JsonTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= pieces_.size()) return {};
  return pieces_[static_cast<size_t>(id)].bytes;
}

std::string JsonTokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string text;
  std::string fallback;  // a run of byte tokens
  // As Hugging Face's ByteFallback has it: a run that is not UTF-8 becomes one U+FFFD per byte.
  const auto flush = [&] {
    if (is_valid_utf8(fallback)) {
      text += fallback;
    } else {
      for (size_t i = 0; i < fallback.size(); ++i) append_utf8(text, kReplacementCharacter);
    }
    fallback.clear();
  };
  for (const TokenId id : ids) {
    if (!vocabulary_.contains(id) || (skip_special_tokens && is_special(id))) continue;
    const TokenDecoder::Piece& piece = pieces_[static_cast<size_t>(id)];
    if (piece.is_byte) {
      fallback += piece.bytes;
    } else {
      flush();
      text += piece.bytes;
    }
  }
  flush();
  if (strips_leading_space() && text.starts_with(' ')) text.erase(0, 1);
  return replace_invalid_utf8(text);
}

}  // namespace

Expected<std::unique_ptr<Tokenizer>> Tokenizer::from_json(std::string_view json) {
  BIFOCAL_ASSIGN_OR_RETURN(JsonValue document, parse_json(json, kFileLimits));
  auto tokenizer = std::make_unique<JsonTokenizer>();
  BIFOCAL_RETURN_IF_ERROR(tokenizer->read(document));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

Expected<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string json, read_file(path, kMaxFileBytes));
  auto tokenizer = from_json(json);
  if (!tokenizer) return tokenizer.status().with_context(path);
  return tokenizer;
}

}  // namespace bifocal::text
