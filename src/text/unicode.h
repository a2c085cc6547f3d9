// Unicode properties and normal forms that tokenizers and templates ask for (utf8proc stays in unicode.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal::text {

bool is_white_space(uint32_t c);     // property White_Space: what \s matches
bool is_word_character(uint32_t c);  // Alphabetic, Mark, Nd, Pc or Join_Control: what \w matches
bool is_punctuation(uint32_t c);     // any P* category, and the ASCII symbols
bool is_numeric(uint32_t c);         // Nd, Nl, No
bool is_letter(uint32_t c);          // L*
bool is_uppercase(uint32_t c);       // Lu, Lt
bool is_lowercase(uint32_t c);       // Ll
bool is_printable(
    uint32_t c);  // as Python's str.isprintable: no separators but the space, no control, unassigned
bool is_decimal_digit(uint32_t c);  // Nd

// Simple case mappings, one character to one.
uint32_t to_lower(uint32_t c);
uint32_t to_upper(uint32_t c);
uint32_t to_title(uint32_t c);

enum class NormalForm { nfc, nfd, nfkc, nfkd };

// UAX #15 with the tables of Unicode 9.0, which Hugging Face's normalizers have: later characters stay as
// they are and keep their place among marks. text must be valid UTF-8. n log n at worst, also for long runs
// of combining marks.
std::string normalize(std::string_view text, NormalForm form);

}  // namespace bifocal::text
