#include "text/jinja/text.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace bifocal::text::jinja {
namespace {

void append_range(std::vector<ByteRange>& ranges, ByteRange range) {
  if (range.begin >= range.end) return;
  if (!ranges.empty() && ranges.back().end == range.begin) {
    ranges.back().end = range.end;
  } else {
    ranges.push_back(range);
  }
}

bool is_space_at(std::string_view bytes, size_t at, size_t& length) {
  const Utf8Char c = decode_utf8(bytes.substr(at));
  length = static_cast<size_t>(c.length);
  return is_python_space(c.code_point);
}

// The byte where the character before `end` begins.
size_t previous_character(std::string_view bytes, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) --at;
  return at;
}

void append_upper(std::string& out, uint32_t c) {
  if (c == 0xDF) {
    out += "SS";
  } else {
    append_utf8(out, to_upper(c));
  }
}

void append_lower(std::string& out, uint32_t c) {
  append_utf8(out, c == 0x130 ? 'i' : to_lower(c));
  if (c == 0x130) append_utf8(out, 0x307);
}

// Maps each character to bytes that inherit its origin.
template <class Map>
Text map_characters(const Text& text, const Map& map) {
  Text out;
  std::string piece;
  text.for_each_character([&](uint32_t c, std::string_view, bool from_user) {
    piece.clear();
    map(piece, c);
    out.append(piece, from_user);
  });
  return out;
}

}  // namespace

Text::Text(std::string bytes, bool from_user) : bytes_(std::move(bytes)) {
  if (from_user && !bytes_.empty()) user_.push_back({0, bytes_.size()});
}

void Text::append(std::string_view bytes, bool from_user) {
  if (from_user) append_range(user_, {bytes_.size(), bytes_.size() + bytes.size()});
  bytes_ += bytes;
}

void Text::append(const Text& other, size_t begin, size_t end) {
  const auto first = std::partition_point(other.user_.begin(), other.user_.end(),
                                          [&](ByteRange r) { return r.end <= begin; });
  for (auto range = first; range != other.user_.end() && range->begin < end; ++range) {
    append_range(user_, {bytes_.size() + std::max(range->begin, begin) - begin,
                         bytes_.size() + std::min(range->end, end) - begin});
  }
  bytes_.append(other.bytes_, begin, end - begin);
}

Text Text::slice(size_t begin, size_t end) const {
  Text out;
  if (begin < end) out.append(*this, begin, end);
  return out;
}

size_t count_characters(std::string_view bytes) {
  return static_cast<size_t>(std::count_if(
      bytes.begin(), bytes.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

size_t byte_offset(std::string_view bytes, size_t character) {
  size_t at = 0;
  for (; character > 0 && at < bytes.size(); --character) {
    ++at;
    while (at < bytes.size() && (static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) ++at;
  }
  return at;
}

bool is_python_space(uint32_t c) {
  return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

Text strip(const Text& text, Side side, const std::string* characters) {
  const std::string_view bytes = text.bytes();
  const auto strippable = [&](size_t at, size_t length) {
    if (characters == nullptr) return is_python_space(decode_utf8(bytes.substr(at, length)).code_point);
    const std::string_view wanted = bytes.substr(at, length);
    for (size_t i = 0; i < characters->size();) {
      const auto step = static_cast<size_t>(decode_utf8(std::string_view(*characters).substr(i)).length);
      if (std::string_view(*characters).substr(i, step) == wanted) return true;
      i += step;
    }
    return false;
  };
  size_t begin = 0;
  size_t end = bytes.size();
  while (side != Side::right && begin < end) {
    const auto length = static_cast<size_t>(decode_utf8(bytes.substr(begin)).length);
    if (!strippable(begin, length)) break;
    begin += length;
  }
  while (side != Side::left && begin < end) {
    const size_t at = previous_character(bytes, end);
    if (!strippable(at, end - at)) break;
    end = at;
  }
  return text.slice(begin, end);
}

std::vector<Text> split(const Text& text, const std::string* separator, int64_t max_splits) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> out;
  size_t begin = 0;
  size_t length = 0;
  if (separator != nullptr) {
    for (size_t at = bytes.find(*separator); at != std::string_view::npos && max_splits != 0;
         at = bytes.find(*separator, begin), --max_splits) {
      out.push_back(text.slice(begin, at));
      begin = at + separator->size();
    }
    out.push_back(text.slice(begin, bytes.size()));
    return out;
  }
  const auto skip_space = [&] {
    while (begin < bytes.size() && is_space_at(bytes, begin, length)) begin += length;
  };
  for (skip_space(); begin < bytes.size() && max_splits != 0; skip_space(), --max_splits) {
    size_t end = begin;
    while (end < bytes.size() && !is_space_at(bytes, end, length)) end += length;
    out.push_back(text.slice(begin, end));
    begin = end;
  }
  if (begin < bytes.size()) out.push_back(text.slice(begin, bytes.size()));
  return out;
}

std::vector<Text> split_from_right(const Text& text, const std::string* separator, int64_t max_splits) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> out;
  size_t end = bytes.size();
  if (separator != nullptr) {
    while (max_splits != 0 && end >= separator->size()) {
      const size_t at = bytes.rfind(*separator, end - separator->size());
      if (at == std::string_view::npos) break;
      out.push_back(text.slice(at + separator->size(), end));
      end = at;
      --max_splits;
    }
    out.push_back(text.slice(0, end));
  } else {
    const auto skip_space = [&] {
      size_t length = 0;
      while (end > 0 && is_space_at(bytes, previous_character(bytes, end), length)) end -= length;
    };
    for (skip_space(); end > 0 && max_splits != 0; skip_space(), --max_splits) {
      size_t begin = end;
      size_t length = 0;
      while (begin > 0 && !is_space_at(bytes, previous_character(bytes, begin), length)) begin -= length;
      out.push_back(text.slice(begin, end));
      end = begin;
    }
    if (end > 0) out.push_back(text.slice(0, end));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> out;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Char c = decode_utf8(bytes.substr(at));
    size_t end = at + static_cast<size_t>(c.length);
    const uint32_t p = c.code_point;
    const bool line_end =
        (p >= 0x0A && p <= 0x0D) || (p >= 0x1C && p <= 0x1E) || p == 0x85 || p == 0x2028 || p == 0x2029;
    if (line_end) {
      if (p == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
      out.push_back(text.slice(begin, keep_ends ? end : at));
      begin = end;
    }
    at = end;
  }
  if (begin < bytes.size()) out.push_back(text.slice(begin, bytes.size()));
  return out;
}

Text replace(const Text& text, const std::string& from, const Text& to, int64_t max_count) {
  const std::string& bytes = text.bytes();
  Text out;
  if (from.empty()) {  // before every character and at the end
    text.for_each_character([&](uint32_t, std::string_view character, bool from_user) {
      if (max_count != 0) out.append(to);
      if (max_count > 0) --max_count;
      out.append(character, from_user);
    });
    if (max_count != 0) out.append(to);
    return out;
  }
  size_t begin = 0;
  for (size_t at = bytes.find(from); at != std::string::npos && max_count != 0;
       at = bytes.find(from, begin), --max_count) {
    out.append(text, begin, at);
    out.append(to);
    begin = at + from.size();
  }
  out.append(text, begin, bytes.size());
  return out;
}

Text upper(const Text& text) {
  return map_characters(text, append_upper);
}
Text lower(const Text& text) {
  return map_characters(text, append_lower);
}

Text title(const Text& text) {
  bool in_word = false;
  return map_characters(text, [&](std::string& out, uint32_t c) {
    if (in_word) {
      append_lower(out, c);
    } else {
      append_utf8(out, to_title(c));
    }
    in_word = is_letter(c);
  });
}

Text title_phrase(const Text& text) {
  bool in_word = false;
  return map_characters(text, [&](std::string& out, uint32_t c) {
    const bool separates = c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_python_space(c);
    if (in_word) {
      append_lower(out, c);
    } else {
      append_upper(out, c);
    }
    in_word = !separates;
  });
}

Text capitalize(const Text& text) {
  bool first = true;
  return map_characters(text, [&](std::string& out, uint32_t c) {
    if (first) {
      append_utf8(out, to_title(c));
    } else {
      append_lower(out, c);
    }
    first = false;
  });
}

}  // namespace bifocal::text::jinja
