#include "text/regex_syntax.h"

#include <fmt/format.h>

#include <array>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace bifocal::text {
namespace {

constexpr std::string_view kWhiteSpace = "\\p{White_Space}";
constexpr std::string_view kNotWhiteSpace = "\\P{White_Space}";
constexpr std::string_view kWordSet = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kHexSet = "0-9A-Fa-f";

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kLongCategories = {{
    {"Letter", "L"},
    {"Mark", "M"},
    {"Number", "N"},
    {"Punctuation", "P"},
    {"Symbol", "S"},
    {"Separator", "Z"},
    {"Other", "C"},
}};
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kPosixSets = {{
    {"alpha", "\\p{Alphabetic}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"digit", "\\p{Nd}"},
    {"lower", "\\p{Lowercase}"},
    {"upper", "\\p{Uppercase}"},
    {"space", kWhiteSpace},
    {"word", kWordSet},
    {"xdigit", kHexSet},
}};
constexpr std::array<std::string_view, 6> kBinaryProperties = {"Any",       "Alphabetic", "White_Space",
                                                               "Uppercase", "Lowercase",  "Emoji"};

// The name within \p{...}: two letters are a category, most longer ones a script.
std::string property_name(std::string_view name) {
  const std::string_view negation = name.substr(0, name.starts_with('^') ? 1 : 0);
  name.remove_prefix(negation.size());
  for (const auto& [from, to] : kLongCategories) {
    if (name == from) return fmt::format("{}{}", negation, to);
  }
  bool plain = name.size() <= 2 || name.find_first_of(":=") != std::string_view::npos;
  for (const std::string_view binary : kBinaryProperties) plain = plain || name == binary;
  return fmt::format("{}{}{}", negation, plain ? "" : "sc:", name);
}

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Expected<std::string> run() {
    while (pos_ < in_.size()) BIFOCAL_RETURN_IF_ERROR(step());
    return std::move(out_);
  }

 private:
  static constexpr size_t kNoAtom = SIZE_MAX;

  bool at(std::string_view what) const { return in_.substr(pos_).starts_with(what); }

  Status step() {
    switch (in_[pos_]) {
      case '\\': {
        atom_ = out_.size();
        BIFOCAL_ASSIGN_OR_RETURN(const std::string text, escape(false));
        out_ += text;
        return {};
      }
      case '[': {
        BIFOCAL_ASSIGN_OR_RETURN(const std::string text, char_class());
        atom_ = out_.size();
        out_ += text;
        return {};
      }
      case '(':
        return open_group();
      case ')':
        if (groups_.empty()) return invalid_argument(fmt::format("unmatched ) at byte {}", pos_));
        atom_ = groups_.back();
        groups_.pop_back();
        out_ += in_[pos_++];
        return {};
      case '{':
        return interval();
      case '|':
      case '*':
      case '+':
      case '?':
        out_ += in_[pos_++];
        return {};
      default: {
        atom_ = out_.size();
        const auto length = static_cast<size_t>(decode_utf8(in_.substr(pos_)).length);
        out_ += in_.substr(pos_, length);
        pos_ += length;
        return {};
      }
    }
  }

  // One escape, in a class or outside.
  Expected<std::string> escape(bool in_class) {
    if (pos_ + 1 >= in_.size()) return invalid_argument("the pattern ends with a backslash");
    const char c = in_[pos_ + 1];
    if ((c == 'p' || c == 'P') && pos_ + 2 < in_.size() && in_[pos_ + 2] == '{') {
      const size_t end = in_.find('}', pos_);
      if (end == std::string_view::npos)
        return invalid_argument(fmt::format("unfinished \\p at byte {}", pos_));
      const std::string name = property_name(in_.substr(pos_ + 3, end - pos_ - 3));
      pos_ = end + 1;
      return fmt::format("\\{}{{{}}}", c, name);
    }
    pos_ += 2;
    const auto set = [&](std::string_view body, bool negated) -> Expected<std::string> {
      if (!in_class) return fmt::format("[{}{}]", negated ? "^" : "", body);
      if (negated) return unsupported(fmt::format("\\{} within a class at byte {}", c, pos_ - 2));
      return std::string(body);
    };
    switch (c) {
      case 's':
        return std::string(kWhiteSpace);
      case 'S':
        return std::string(kNotWhiteSpace);
      case 'w':
        return set(kWordSet, false);
      case 'W':
        return set(kWordSet, true);
      case 'h':
        return set(kHexSet, false);
      case 'H':
        return set(kHexSet, true);
      default: {
        const auto length = static_cast<size_t>(decode_utf8(in_.substr(pos_ - 1)).length);
        const std::string_view character = in_.substr(pos_ - 1, length);
        pos_ += length - 1;
        // An escaped character outside ASCII is itself.
        return fmt::format("{}{}", length == 1 ? "\\" : "", character);
      }
    }
  }

  // "[:alpha:]" within a class.
  Expected<std::string_view> posix_set() {
    const size_t end = in_.find(":]", pos_);
    const std::string_view name = end == std::string_view::npos ? "" : in_.substr(pos_ + 2, end - pos_ - 2);
    for (const auto& [known, set] : kPosixSets) {
      if (name != known) continue;
      pos_ = end + 2;
      return set;
    }
    return unsupported(fmt::format("the class [:{}:] at byte {}", name.substr(0, 20), pos_));
  }

  Expected<std::string> char_class() {
    const size_t start = pos_++;
    std::string body = "[";
    bool negated = false;
    if (at("^")) {
      negated = true;
      body += '^';
      ++pos_;
    }
    std::string excluded;
    for (bool first = true; !at("]") || first; first = false) {
      if (pos_ >= in_.size()) return invalid_argument(fmt::format("unfinished class at byte {}", start));
      if (in_[pos_] == '\\') {
        BIFOCAL_ASSIGN_OR_RETURN(const std::string text, escape(true));
        body += text;
      } else if (at("[:")) {
        BIFOCAL_ASSIGN_OR_RETURN(const std::string_view set, posix_set());
        body += set;
      } else if (at("&&[^") && !negated && excluded.empty()) {
        pos_ += 2;
        BIFOCAL_ASSIGN_OR_RETURN(excluded, char_class());
        excluded.erase(1, 1);  // "[^B]" to "[B]"
        if (!at("]")) return unsupported(fmt::format("a class that goes on after && at byte {}", pos_));
      } else if (at("&&") || at("[")) {
        return unsupported(fmt::format("a set operation within a class at byte {}", pos_));
      } else {
        body += in_[pos_++];
      }
    }
    ++pos_;
    body += ']';
    return excluded.empty() ? body : fmt::format("(?:(?!{}){})", excluded, body);
  }

  Status open_group() {
    groups_.push_back(out_.size());
    out_ += in_[pos_++];
    if (!at("?")) return {};
    // Options between "?" and ":" or ")"; look-arounds and names begin with another character and are copied
    // as they are.
    size_t end = pos_ + 1;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) ++end;
    if (end < in_.size() && end > pos_ + 1 && (in_[end] == ':' || in_[end] == ')')) {
      for (; pos_ < end; ++pos_) out_ += in_[pos_] == 'm' ? 's' : in_[pos_];
    }
    while (pos_ < in_.size() && std::string_view("?:=!<>").find(in_[pos_]) != std::string_view::npos)
      out_ += in_[pos_++];
    return {};
  }

  // "{" begins an interval only when it reads {n}, {n,}, {,m} or {n,m}.
  Status interval() {
    size_t end = pos_ + 1;
    while (end < in_.size() && ((in_[end] >= '0' && in_[end] <= '9') || in_[end] == ',')) ++end;
    const std::string_view body = in_.substr(pos_ + 1, end - pos_ - 1);
    if (end >= in_.size() || in_[end] != '}' || body.empty() || body == "," || atom_ == kNoAtom) {
      atom_ = out_.size();
      out_ += "\\{";
      ++pos_;
      return {};
    }
    out_ += fmt::format("{{{}{}}}", body.starts_with(',') ? "0" : "", body);
    pos_ = end + 1;
    if (at("+")) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
    return {};
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  std::vector<size_t> groups_;  // where each open group begins in out_
  size_t atom_ = kNoAtom;       // where the last repeatable item begins in out_
};

}  // namespace

Expected<std::string> oniguruma_to_pcre2(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace bifocal::text
