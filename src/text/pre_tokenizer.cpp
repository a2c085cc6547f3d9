#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/json_access.h"
#include "text/piece_split.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace bifocal::text {
namespace {

class Split : public PreTokenizerStep {
 public:
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  Status apply(PieceList& list) const override {
    return split_pieces(list, behavior_, invert_,
                        [&](std::string_view piece, std::vector<ByteRange>& matches) {
                          return pattern_.find_all(piece, matches);
                        });
  }

 private:
  Regex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Every character with a property is a match.
class SplitByProperty : public PreTokenizerStep {
 public:
  SplitByProperty(bool (*property)(uint32_t), SplitBehavior behavior)
      : property_(property), behavior_(behavior) {}
  Status apply(PieceList& list) const override {
    return split_pieces(list, behavior_, false, [&](std::string_view piece, std::vector<ByteRange>& matches) {
      for (size_t at = 0; at < piece.size();) {
        const Utf8Char c = decode_utf8(piece.substr(at));
        const size_t end = at + static_cast<size_t>(c.length);
        if (property_(c.code_point)) matches.push_back({at, end});
        at = end;
      }
      return Status();
    });
  }

 private:
  bool (*property_)(uint32_t);
  SplitBehavior behavior_;
};

// Rewrites each piece into a new text.
template <class Rewrite>
void rewrite_pieces(PieceList& list, const Rewrite& rewrite) {
  std::string text;
  text.reserve(list.text.size() * 2);
  for (size_t i = 0; i < list.pieces.size(); ++i) {
    const size_t begin = text.size();
    rewrite(i, list.piece(i), text);
    list.pieces[i] = {begin, text.size()};
  }
  list.text = std::move(text);
}

class PrefixSpace : public PreTokenizerStep {
 public:
  Status apply(PieceList& list) const override {
    rewrite_pieces(list, [](size_t, std::string_view piece, std::string& out) {
      if (!piece.starts_with(' ')) out += ' ';
      out += piece;
    });
    return {};
  }
};

class ByteLevel : public PreTokenizerStep {
 public:
  Status apply(PieceList& list) const override {
    rewrite_pieces(
        list, [](size_t, std::string_view piece, std::string& out) { append_byte_characters(out, piece); });
    return {};
  }
};

enum class PrependScheme { always, first, never };

class Metaspace : public PreTokenizerStep {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}
  Status apply(PieceList& list) const override {
    // False when a step before this one removed the beginning.
    const bool starts_list = !list.pieces.empty() && list.pieces[0].begin == 0;
    rewrite_pieces(list, [&](size_t i, std::string_view piece, std::string& out) {
      const bool first = list.starts_text && i == 0 && starts_list;
      const bool prepend = scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && first);
      if (prepend && !piece.starts_with(' ') && !piece.starts_with(replacement_)) out += replacement_;
      for (const char c : piece) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    });
    if (!split_) return {};
    return split_pieces(list, SplitBehavior::merged_with_next, false,
                        [&](std::string_view piece, std::vector<ByteRange>& matches) {
                          for (size_t at = piece.find(replacement_); at != std::string_view::npos;
                               at = piece.find(replacement_, at + replacement_.size())) {
                            matches.push_back({at, at + replacement_.size()});
                          }
                          return Status();
                        });
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

// The expression of GPT-2 that ByteLevel applies unless told otherwise.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// \w+|[^\w\s]+ with the \w of Rust's regular expressions, which counts joiners.
constexpr std::string_view kWhitespacePattern = R"([\w\x{200C}\x{200D}]+|[^\w\x{200C}\x{200D}\s]+)";

using Steps = std::vector<std::unique_ptr<PreTokenizerStep>>;

Status add_split_regex(std::string_view pattern, SplitBehavior behavior, bool invert, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(Regex regex, Regex::compile(pattern));
  steps.push_back(std::make_unique<Split>(std::move(regex), behavior, invert));
  return {};
}

Status add_split(const JsonReader& json, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(Regex pattern, read_pattern(json, "pattern"));
  BIFOCAL_ASSIGN_OR_RETURN(const SplitBehavior behavior, read_behavior(json));
  BIFOCAL_ASSIGN_OR_RETURN(const bool invert, read_bool(json, "invert", false));
  steps.push_back(std::make_unique<Split>(std::move(pattern), behavior, invert));
  return {};
}

Status add_byte_level(const JsonReader& json, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(const bool prefix_space, read_bool(json, "add_prefix_space", true));
  BIFOCAL_ASSIGN_OR_RETURN(const bool use_regex, read_bool(json, "use_regex", true));
  for (const auto& step : steps) {
    // Each pass doubles the bytes of most characters.
    if (dynamic_cast<const ByteLevel*>(step.get()) != nullptr)
      return unsupported(json.path_of("type") + ": ByteLevel twice");
  }
  if (prefix_space) steps.push_back(std::make_unique<PrefixSpace>());
  if (use_regex)
    BIFOCAL_RETURN_IF_ERROR(add_split_regex(kGpt2Pattern, SplitBehavior::isolated, false, steps));
  steps.push_back(std::make_unique<ByteLevel>());
  return {};
}

Status add_digits(const JsonReader& json, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(const bool individual, read_bool(json, "individual_digits", false));
  steps.push_back(std::make_unique<SplitByProperty>(
      is_numeric, individual ? SplitBehavior::isolated : SplitBehavior::contiguous));
  return {};
}

Status add_metaspace(const JsonReader& json, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(std::string replacement, read_string(json, "replacement"));
  if (replacement.empty() || static_cast<size_t>(decode_utf8(replacement).length) != replacement.size()) {
    return invalid_argument(json.path_of("replacement") + ": expected one character");
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto scheme, json.get_string("prepend_scheme", 64));
  BIFOCAL_ASSIGN_OR_RETURN(const bool prefix_space, read_bool(json, "add_prefix_space", true));
  BIFOCAL_ASSIGN_OR_RETURN(const bool split, read_bool(json, "split", true));
  // Files from before prepend_scheme say the same with add_prefix_space.
  PrependScheme parsed = prefix_space ? PrependScheme::always : PrependScheme::never;
  if (scheme == "first") {
    parsed = PrependScheme::first;
  } else if (scheme == "never") {
    parsed = PrependScheme::never;
  } else if (scheme && scheme != "always") {
    return invalid_argument(fmt::format("{}: expected always, first or never, got \"{}\"",
                                        json.path_of("prepend_scheme"), *scheme));
  }
  steps.push_back(std::make_unique<Metaspace>(std::move(replacement), parsed, split));
  return {};
}

// Recursion over Sequence is bounded by the depth limit of the JSON parser.
Status add_steps(const JsonValue& json, const std::string& path, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(json, path));
  BIFOCAL_ASSIGN_OR_RETURN(const std::string type, component_type(reader, path));
  if (type == "Sequence") {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* parts, reader.get_array("pretokenizers"));
    if (parts == nullptr) return invalid_argument(path + ".pretokenizers: missing");
    for (size_t i = 0; i < parts->size(); ++i) {
      BIFOCAL_RETURN_IF_ERROR(add_steps((*parts)[i], fmt::format("{}.pretokenizers[{}]", path, i), steps));
    }
    return {};
  }
  if (type == "Split") return add_split(reader, steps);
  if (type == "ByteLevel") return add_byte_level(reader, steps);
  if (type == "Digits") return add_digits(reader, steps);
  if (type == "Metaspace") return add_metaspace(reader, steps);
  if (type == "Whitespace") return add_split_regex(kWhitespacePattern, SplitBehavior::removed, true, steps);
  if (type == "WhitespaceSplit") return add_split_regex(R"(\s+)", SplitBehavior::removed, false, steps);
  if (type == "Punctuation") {
    SplitBehavior behavior = SplitBehavior::isolated;
    if (reader.has("behavior")) {
      BIFOCAL_ASSIGN_OR_RETURN(behavior, read_behavior(reader));
    }
    steps.push_back(std::make_unique<SplitByProperty>(is_punctuation, behavior));
    return {};
  }
  return unsupported(
      fmt::format("{}: type \"{}\", expected Split, ByteLevel, Digits, Punctuation, Whitespace, "
                  "WhitespaceSplit, Metaspace or Sequence",
                  path, type));
}

}  // namespace

Expected<PreTokenizer> PreTokenizer::from_json(const JsonValue* json) {
  PreTokenizer out;
  if (json != nullptr && !json->is_null())
    BIFOCAL_RETURN_IF_ERROR(add_steps(*json, "pre_tokenizer", out.steps_));
  return out;
}

Status PreTokenizer::apply(PieceList& list) const {
  list.pieces.clear();
  if (!list.text.empty()) list.pieces.push_back({0, list.text.size()});
  for (const auto& step : steps_) BIFOCAL_RETURN_IF_ERROR(step->apply(list));
  return {};
}

}  // namespace bifocal::text
