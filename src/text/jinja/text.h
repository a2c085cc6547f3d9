// The strings of templates: bytes, and which of them came from the user (messages, tools, arguments of the
// request) rather than from the template. Every operation carries the ranges along, so that special tokens in
// user text can be told from those that the template writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer.h"

namespace bifocal::text::jinja {

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool from_user = false);

  const std::string& bytes() const { return bytes_; }
  const std::vector<ByteRange>& user_ranges() const {
    return user_;
  }  // sorted, disjoint, not adjacent, not empty
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  void append(std::string_view bytes, bool from_user = false);
  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, size_t begin, size_t end);  // a part, in bytes
  Text slice(size_t begin, size_t end) const;                // in bytes

  // Calls visit(code point, its bytes, whether they are the user's) for each character.
  template <class Visit>
  void for_each_character(const Visit& visit) const {
    size_t range = 0;
    for (size_t at = 0; at < bytes_.size();) {
      const std::string_view rest = std::string_view(bytes_).substr(at);
      const Utf8Char c = decode_utf8(rest);
      while (range < user_.size() && user_[range].end <= at) ++range;
      const bool from_user = range < user_.size() && user_[range].begin <= at;
      visit(c.code_point, rest.substr(0, static_cast<size_t>(c.length)), from_user);
      at += static_cast<size_t>(c.length);
    }
  }

  friend bool operator==(const Text& a, const Text& b) { return a.bytes_ == b.bytes_; }

 private:
  std::string bytes_;
  std::vector<ByteRange> user_;
};

// Characters, as Python counts them.
size_t count_characters(std::string_view bytes);
// The byte offset of a character; the size of bytes for indices past the end.
size_t byte_offset(std::string_view bytes, size_t character);

// Python's str.isspace, for one character.
bool is_python_space(uint32_t c);

enum class Side { left, right, both };
// Without `characters`: strips white space.
Text strip(const Text& text, Side side, const std::string* characters = nullptr);

// Python's str.split: at runs of white space without a separator. max_splits < 0: no limit.
std::vector<Text> split(const Text& text, const std::string* separator, int64_t max_splits);
std::vector<Text> split_from_right(const Text& text, const std::string* separator, int64_t max_splits);
std::vector<Text> split_lines(const Text& text, bool keep_ends);

// max_count < 0: all.
Text replace(const Text& text, const std::string& from, const Text& to, int64_t max_count);

Text upper(const Text& text);
Text lower(const Text& text);
Text title(const Text& text);  // str.title: a word is a run of letters
Text title_phrase(
    const Text& text);  // the filter: words are apart by white space, hyphens and opening brackets
Text capitalize(const Text& text);  // the first character

}  // namespace bifocal::text::jinja
