#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/utf8.h"
#include "text/jinja/text.h"
#include "text/unicode.h"

namespace bifocal::text::jinja {
namespace {

constexpr std::array<std::string_view, 6> kTwoCharacterSymbols = {"//", "**", "==", "!=", ">=", "<="};
constexpr std::string_view kSymbols = "+-/*%~[](){}><=.:|,;";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// Newlines become \n; one at the very end is dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (pos_ < source_.size()) {
      const size_t tag = find_tag();
      if (tag == std::string_view::npos) {
        add_data(source_.substr(pos_));
        advance(source_.size());
        break;
      }
      lex_tag(tag);
    }
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  enum class Tag { variable, block, comment };

  [[noreturn]] void fail(std::string message) const { throw TemplateError{position_, std::move(message)}; }

  bool at(std::string_view what) const { return source_.substr(pos_).starts_with(what); }

  // Moves to an offset, keeping count of lines and columns.
  void advance(size_t to) {
    for (; pos_ < to; ++pos_) {
      const char c = source_[pos_];
      if (c == '\n') {
        ++position_.line;
        position_.column = 1;
      } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
        ++position_.column;
      }
    }
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), position_}); }
  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenKind::data, std::string(text));
  }

  size_t find_tag() const {
    for (size_t i = source_.find('{', pos_); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string_view::npos;
  }

  // The data before a tag that starts with `sign` ('-', '+' or none).
  std::string_view before_tag(std::string_view data, Tag tag, char sign) const {
    if (sign == '-') {
      while (!data.empty()) {
        size_t begin = data.size() - 1;
        while (begin > 0 && (static_cast<unsigned char>(data[begin]) & 0xC0) == 0x80) --begin;
        if (!is_python_space(decode_utf8(data.substr(begin)).code_point)) break;
        data = data.substr(0, begin);
      }
      return data;
    }
    if (sign == '+' || tag == Tag::variable) return data;
    const size_t newline = data.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return data;
    for (std::string_view rest = data.substr(line); !rest.empty();) {
      const Utf8Char c = decode_utf8(rest);
      if (!is_python_space(c.code_point)) return data;
      rest.remove_prefix(static_cast<size_t>(c.length));
    }
    return data.substr(0, line);
  }

  void skip_space() {
    size_t to = pos_;
    while (to < source_.size()) {
      const Utf8Char c = decode_utf8(source_.substr(to));
      if (!is_python_space(c.code_point)) break;
      to += static_cast<size_t>(c.length);
    }
    advance(to);
  }

  // Past the end of a tag: "-" swallows white space, and after blocks and comments one newline goes by
  // itself.
  void close_tag(size_t end, char sign, Tag tag) {
    advance(end);
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && tag != Tag::variable && at("\n")) {
      advance(pos_ + 1);
    }
    line_starting_ = pos_ > 0 && source_[pos_ - 1] == '\n';
  }

  void lex_tag(size_t begin) {
    const char kind = source_[begin + 1];
    const Tag tag = kind == '{' ? Tag::variable : kind == '%' ? Tag::block : Tag::comment;
    size_t after = begin + 2;
    char sign = '\0';
    if (after < source_.size() && (source_[after] == '-' || source_[after] == '+')) sign = source_[after++];
    add_data(before_tag(source_.substr(pos_, begin - pos_), tag, sign));
    advance(begin);
    if (tag == Tag::comment) return lex_comment(after);
    if (tag == Tag::block && lex_raw(after)) return;
    add(tag == Tag::variable ? TokenKind::variable_begin : TokenKind::block_begin, "");
    const Position opened = position_;
    advance(after);
    lex_expression(tag, opened);
  }

  void lex_comment(size_t after) {
    const size_t end = source_.find("#}", after);
    if (end == std::string_view::npos) fail("the comment is not closed");
    const char before = end > after ? source_[end - 1] : '\0';
    close_tag(end + 2, before == '-' || before == '+' ? before : '\0', Tag::comment);
  }

  // Matches "SPACE word SPACE [sign]%}" at an offset; the offset after it, or npos.
  size_t match_keyword_tag(size_t offset, std::string_view word, char& sign) const {
    const auto skip = [&] {
      while (offset < source_.size() && is_python_space(static_cast<unsigned char>(source_[offset])))
        ++offset;
    };
    sign = '\0';
    skip();
    if (!source_.substr(offset).starts_with(word)) return std::string_view::npos;
    offset += word.size();
    skip();
    if (offset < source_.size() && (source_[offset] == '-' || source_[offset] == '+'))
      sign = source_[offset++];
    return source_.substr(offset).starts_with("%}") ? offset + 2 : std::string_view::npos;
  }

  bool lex_raw(size_t after) {
    char sign = '\0';
    const size_t body = match_keyword_tag(after, "raw", sign);
    if (body == std::string_view::npos || sign == '+') return false;
    const Position opened = position_;
    advance(body);
    if (sign == '-') skip_space();
    line_starting_ = source_[pos_ - 1] == '\n';
    for (size_t tag = source_.find("{%", pos_); tag != std::string_view::npos;
         tag = source_.find("{%", tag + 2)) {
      size_t inside = tag + 2;
      char begin_sign = '\0';
      if (inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+'))
        begin_sign = source_[inside++];
      const size_t end = match_keyword_tag(inside, "endraw", sign);
      if (end == std::string_view::npos) continue;
      add_data(before_tag(source_.substr(pos_, tag - pos_), Tag::block, begin_sign));
      close_tag(end, sign, Tag::block);
      return true;
    }
    throw TemplateError{opened, "the raw block is not closed"};
  }

  // Tokens up to the end of the tag. Within brackets "}}" and "%}" are no ends.
  void lex_expression(Tag tag, Position opened) {
    const std::string_view close = tag == Tag::variable ? "}}" : "%}";
    const TokenKind close_kind = tag == Tag::variable ? TokenKind::variable_end : TokenKind::block_end;
    std::string brackets;  // the closing ones that are awaited
    while (true) {
      skip_space();
      if (pos_ >= source_.size())
        throw TemplateError{opened, fmt::format("the tag is not closed, expected {}", close)};
      if (brackets.empty()) {
        const bool signed_close =
            (at("-") || (at("+") && tag == Tag::block)) && source_.substr(pos_ + 1).starts_with(close);
        if (signed_close || at(close)) {
          add(close_kind, "");
          close_tag(pos_ + close.size() + (signed_close ? 1 : 0), signed_close ? source_[pos_] : '\0', tag);
          return;
        }
      }
      const char c = source_[pos_];
      if (is_digit(c)) {
        lex_number();
      } else if (is_name_start(c)) {
        size_t end = pos_;
        while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
        add(TokenKind::name, std::string(source_.substr(pos_, end - pos_)));
        advance(end);
      } else if (c == '"' || c == '\'') {
        lex_string(c);
      } else {
        lex_symbol(brackets);
      }
    }
  }

  void lex_symbol(std::string& brackets) {
    for (const std::string_view symbol : kTwoCharacterSymbols) {
      if (at(symbol)) {
        add(TokenKind::symbol, std::string(symbol));
        return advance(pos_ + 2);
      }
    }
    const char c = source_[pos_];
    if (kSymbols.find(c) == std::string_view::npos) fail("a character that no expression can hold");
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) fail(fmt::format("unexpected '{}'", c));
      brackets.pop_back();
    }
    add(TokenKind::symbol, std::string(1, c));
    advance(pos_ + 1);
  }

  // Decimal numbers, with underscores between digits: 12, 1_000, 1.5, 2e3.
  void lex_number() {
    size_t end = pos_;
    std::string digits;
    const auto take_digits = [&] {
      while (end < source_.size() && (is_digit(source_[end]) || source_[end] == '_')) {
        if (source_[end] != '_') digits += source_[end];
        ++end;
      }
    };
    const auto digit_at = [&](size_t i) { return i < source_.size() && is_digit(source_[i]); };
    take_digits();
    bool real = false;
    // "1.x" is an attribute of 1.
    if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      real = true;
      digits += source_[end++];
      take_digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
      if (digit_at(end + 1 + sign)) {
        real = true;
        digits.append(source_.substr(end, 1 + sign));
        end += 1 + sign;
        take_digits();
      }
    }
    add(real ? TokenKind::real : TokenKind::integer, std::move(digits));
    advance(end);
  }

  void lex_string(char quote) {
    const Position begin = position_;
    std::string text;
    size_t at = pos_ + 1;
    while (true) {
      if (at >= source_.size()) throw TemplateError{begin, "the string is not closed"};
      const char c = source_[at];
      if (c == quote) break;
      if (c == '\\') {
        at = lex_escape(at, text);
      } else {
        text += c;
        ++at;
      }
    }
    tokens_.push_back({TokenKind::string, std::move(text), begin});
    advance(at + 1);
  }

  // Python's escapes; the offset after it. An unknown one keeps its backslash.
  size_t lex_escape(size_t at, std::string& out) {
    static constexpr std::array<std::pair<char, char>, 11> kSimple = {{
        {'n', '\n'},
        {'t', '\t'},
        {'r', '\r'},
        {'\\', '\\'},
        {'\'', '\''},
        {'"', '"'},
        {'a', '\a'},
        {'b', '\b'},
        {'f', '\f'},
        {'v', '\v'},
        {'0', '\0'},
    }};
    const char c = at + 1 < source_.size() ? source_[at + 1] : '\0';
    if (c == '\n') return at + 2;
    for (const auto& [letter, meaning] : kSimple) {
      if (c == letter) {
        out += meaning;
        return at + 2;
      }
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      out += '\\';
      return at + 1;
    }
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char d = at + 2 + i < source_.size() ? source_[at + 2 + i] : '\0';
      const int digit = is_digit(d)            ? d - '0'
                        : d >= 'a' && d <= 'f' ? d - 'a' + 10
                        : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                               : -1;
      if (digit < 0 || value > 0x10FFFF)
        fail(fmt::format("expected {} hexadecimal digits after \\{}", digits, c));
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    append_utf8(out, value);
    return at + 2 + digits;
  }

  std::string_view source_;
  size_t pos_ = 0;
  Position position_;
  bool line_starting_ = true;  // the data that follows begins a line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  const std::string normalized = normalize_newlines(source);
  return Lexer(normalized).run();
}

}  // namespace bifocal::text::jinja
