// UTF-8: validation and decoding (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal {

constexpr uint32_t kReplacementCharacter = 0xFFFD;

struct Utf8Char {
  uint32_t code_point = kReplacementCharacter;
  int length = 0;      // bytes consumed; at least 1 for non-empty input
  bool valid = false;  // false: code_point is U+FFFD and length covers the maximal ill-formed prefix
};

// Decodes the first character of text (which must not be empty).
Utf8Char decode_utf8(std::string_view text);

bool is_valid_utf8(std::string_view text);

void append_utf8(std::string& out, uint32_t code_point);

// Each maximal ill-formed part becomes one U+FFFD, as the Unicode standard (3.9, "Substitution of Maximal
// Subparts") and Python do.
std::string replace_invalid_utf8(std::string_view text);

// The number of bytes at the end of text that begin a character which later bytes could still complete (0 to
// 3).
int incomplete_utf8_suffix(std::string_view text);

}  // namespace bifocal
