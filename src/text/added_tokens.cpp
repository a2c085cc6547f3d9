#include "text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "text/json_access.h"
#include "text/unicode.h"

namespace bifocal::text {
namespace {

constexpr size_t kMaxTokens = 100'000;
constexpr size_t kMaxContentBytes = 1024;
constexpr size_t kMaxTotalBytes = size_t{2} << 20;

uint32_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return decode_utf8(text.substr(at)).code_point;
}

bool between_words(std::string_view text, ByteRange range) {
  const std::string_view before = text.substr(0, range.begin);
  const std::string_view after = text.substr(range.end);
  return (before.empty() || !is_word_character(last_character(before))) &&
         (after.empty() || !is_word_character(decode_utf8(after).code_point));
}

// Widens the range over white space, on the left not past `floor`.
size_t skip_space_left(std::string_view text, size_t begin, size_t floor) {
  while (begin > floor) {
    const uint32_t c = last_character(text.substr(0, begin));
    if (!is_white_space(c)) break;
    size_t at = begin - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    begin = std::max(at, floor);
  }
  return begin;
}

size_t skip_space_right(std::string_view text, size_t end) {
  while (end < text.size()) {
    const Utf8Char c = decode_utf8(text.substr(end));
    if (!is_white_space(c.code_point)) break;
    end += static_cast<size_t>(c.length);
  }
  return end;
}

Expected<AddedToken> read_token(const JsonValue& json, const std::string& path) {
  AddedToken token;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(json, path));
  BIFOCAL_ASSIGN_OR_RETURN(const auto id, reader.get_int("id", 0, INT32_MAX - 1));
  BIFOCAL_ASSIGN_OR_RETURN(const auto content, reader.get_string("content", kMaxContentBytes));
  if (!id || !content || content->empty())
    return invalid_argument(path + ": expected an id and a content that is not empty");
  token.id = static_cast<TokenId>(*id);
  token.content = *content;
  BIFOCAL_ASSIGN_OR_RETURN(token.special, read_bool(reader, "special", false));
  BIFOCAL_ASSIGN_OR_RETURN(token.single_word, read_bool(reader, "single_word", false));
  BIFOCAL_ASSIGN_OR_RETURN(token.lstrip, read_bool(reader, "lstrip", false));
  BIFOCAL_ASSIGN_OR_RETURN(token.rstrip, read_bool(reader, "rstrip", false));
  BIFOCAL_ASSIGN_OR_RETURN(token.normalized, read_bool(reader, "normalized", !token.special));
  return token;
}

}  // namespace

void AddedTokens::Matcher::add(std::string_view content, size_t token) {
  if (content.empty()) return;
  const auto new_node = [&](char byte) {
    nodes_.push_back({byte});
    return static_cast<uint32_t>(nodes_.size());
  };
  uint32_t& root = roots_[static_cast<unsigned char>(content[0])];
  if (root == 0) root = new_node(content[0]);
  uint32_t at = root;
  for (const char byte : content.substr(1)) {
    uint32_t next = nodes_[at - 1].child;
    while (next != 0 && nodes_[next - 1].byte != byte) next = nodes_[next - 1].sibling;
    if (next == 0) {
      next = new_node(byte);
      nodes_[next - 1].sibling = nodes_[at - 1].child;
      nodes_[at - 1].child = next;
    }
    at = next;
  }
  if (nodes_[at - 1].token == kNoToken) nodes_[at - 1].token = static_cast<uint32_t>(token);
}

void AddedTokens::Matcher::find(std::string_view text, std::vector<Match>& found) const {
  found.clear();
  uint32_t at = roots_[static_cast<unsigned char>(text[0])];
  for (size_t i = 1; at != 0; ++i) {
    const Node& node = nodes_[at - 1];
    if (node.token != kNoToken) found.push_back({node.token, i});
    if (i == text.size()) return;
    at = node.child;
    while (at != 0 && nodes_[at - 1].byte != text[i]) at = nodes_[at - 1].sibling;
  }
}

Expected<AddedTokens> AddedTokens::from_json(const JsonValue* json, const Normalizer& normalizer,
                                             Vocabulary& vocabulary) {
  AddedTokens out;
  if (json == nullptr || json->is_null()) return out;
  if (!json->is_array()) return type_error("added_tokens", "array", *json);
  const auto& array = json->as_array();
  if (array.size() > kMaxTokens) {
    return invalid_argument(
        fmt::format("added_tokens: {} entries, expected at most {}", array.size(), kMaxTokens));
  }
  size_t total_bytes = 0;
  for (size_t i = 0; i < array.size(); ++i) {
    const std::string path = fmt::format("added_tokens[{}]", i);
    BIFOCAL_ASSIGN_OR_RETURN(AddedToken token, read_token(array[i], path));
    const Status status = vocabulary.add(token.content, token.id);
    if (!status.ok()) return status.with_context(path);
    std::string normalized = token.content;
    if (token.normalized) BIFOCAL_RETURN_IF_ERROR(normalizer.apply(normalized));
    total_bytes += token.content.size() + normalized.size();
    if (total_bytes > kMaxTotalBytes) {
      return invalid_argument(fmt::format("added_tokens: more than {} bytes together", kMaxTotalBytes));
    }
    const size_t index = out.tokens_.size();
    out.matcher(token.normalized ? Stage::after_normalizer : Stage::before_normalizer).add(normalized, index);
    if (token.special || !token.normalized)
      out.matcher(Stage::before_normalizer_or_special).add(token.content, index);
    if (token.special) {
      const auto id = static_cast<size_t>(token.id);
      if (out.special_.size() <= id) out.special_.resize(id + 1);
      out.special_[id] = true;
    }
    token.content = std::move(normalized);
    out.tokens_.push_back(std::move(token));
  }
  return out;
}

void AddedTokens::split(std::string_view text, Stage stage, const Allow& allow,
                        std::vector<Section>& sections) const {
  sections.clear();
  const Matcher& matcher = matchers_[static_cast<size_t>(stage)];
  std::vector<Matcher::Match> found;
  size_t done = 0;  // before here, text belongs to a section
  const auto add_text = [&](size_t end) {
    if (done < end) sections.push_back({{done, end}, -1});
  };
  for (size_t at = 0; at < text.size();) {
    if (matcher.empty() || !matcher.may_start(text[at])) {
      ++at;
      continue;
    }
    matcher.find(text.substr(at), found);
    while (!found.empty() && !allow(tokens_[found.back().token], {at, at + found.back().length}))
      found.pop_back();
    if (found.empty()) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found.back().token];
    ByteRange range{at, at + found.back().length};
    // What is found next begins after this token, also when it is refused here or swallows more white space.
    at = range.end;
    if (token.single_word && !between_words(text, range)) continue;
    range.begin = token.lstrip ? skip_space_left(text, range.begin, done) : std::max(range.begin, done);
    if (token.rstrip) range.end = skip_space_right(text, range.end);
    add_text(range.begin);
    sections.push_back({range, token.id});
    done = range.end;
  }
  add_text(text.size());
}

}  // namespace bifocal::text
