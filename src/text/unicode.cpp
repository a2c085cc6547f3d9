#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/utf8.h"

namespace bifocal::text {
namespace {

utf8proc_category_t category(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool in_categories(uint32_t c, utf8proc_category_t first, utf8proc_category_t last) {
  const utf8proc_category_t got = category(c);
  return got >= first && got <= last;
}

// Characters that are Alphabetic though their category (So) is not a letter's: circled and squared Latin
// letters.
bool is_alphabetic_symbol(uint32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

// The first code point that the form may change.
uint32_t first_affected(NormalForm form) {
  switch (form) {
    case NormalForm::nfc:
      return 0x300;
    case NormalForm::nfd:
      return 0xC0;
    case NormalForm::nfkc:
    case NormalForm::nfkd:
      return 0xA0;
  }
  return 0;
}

bool is_unaffected(std::string_view text, NormalForm form) {
  const uint32_t bound = first_affected(form);
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.code_point >= bound) return false;
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return true;
}

// Characters later than Unicode 9.0 that utf8proc would decompose, compose or reorder.
struct Range {
  uint32_t first;
  uint32_t last;
};
constexpr std::array<Range, 36> kLaterCharacters = {{
    {0x7FD, 0x7FD},     {0x898, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},
    {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},
    {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA}, {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E030, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
}};

bool is_later(uint32_t c) {
  if (c < kLaterCharacters.front().first) return false;
  const auto* range = std::partition_point(kLaterCharacters.begin(), kLaterCharacters.end(),
                                           [&](Range r) { return r.last < c; });
  return range != kLaterCharacters.end() && range->first <= c;
}

int combining_class(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

// Canonical ordering (UAX #15, D109). utf8proc's own is an insertion sort, quadratic in a run of marks.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  for (size_t i = 0; i < points.size();) {
    if (combining_class(points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    if (end - i > 1) {
      std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(i),
                       points.begin() + static_cast<std::ptrdiff_t>(end),
                       [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    }
    i = end;
  }
}

}  // namespace

bool is_white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_word_character(uint32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return is_alphabetic_symbol(c) || c == 0x200C || c == 0x200D;
  }
}

bool is_punctuation(uint32_t c) {
  if (c < 0x80)
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
           (c >= 0x7B && c <= 0x7E);
  return in_categories(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool is_numeric(uint32_t c) {
  return in_categories(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}
bool is_decimal_digit(uint32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}
bool is_letter(uint32_t c) {
  return in_categories(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}
bool is_uppercase(uint32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU || category(c) == UTF8PROC_CATEGORY_LT;
}
bool is_lowercase(uint32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL;
}

bool is_printable(uint32_t c) {
  if (c == ' ') return true;
  const utf8proc_category_t got = category(c);
  return got != UTF8PROC_CATEGORY_CN && !(got >= UTF8PROC_CATEGORY_ZS && got <= UTF8PROC_CATEGORY_CO);
}

uint32_t to_lower(uint32_t c) {
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
uint32_t to_upper(uint32_t c) {
  return static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
uint32_t to_title(uint32_t c) {
  return static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_unaffected(text, form)) return std::string(text);
  const bool compose = form == NormalForm::nfc || form == NormalForm::nfkc;
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                     (compatible ? UTF8PROC_COMPAT : 0));
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  std::vector<utf8proc_int32_t> points;
  const auto flush = [&] {
    order_marks(points);
    if (compose) {
      const auto count =
          utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()), options);
      points.resize(count < 0 ? points.size() : static_cast<size_t>(count));
    }
    for (const utf8proc_int32_t c : points) append_utf8(out, static_cast<uint32_t>(c));
    points.clear();
  };
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    text.remove_prefix(static_cast<size_t>(c.length));
    if (is_later(c.code_point)) {
      flush();
      append_utf8(out, c.code_point);
      continue;
    }
    // The longest decomposition, U+FDFA's, has 18 characters.
    std::array<utf8proc_int32_t, 32> parts;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts.data(),
                                               static_cast<utf8proc_ssize_t>(parts.size()), options, nullptr);
    if (count < 0 || static_cast<size_t>(count) > parts.size()) {
      points.push_back(static_cast<utf8proc_int32_t>(c.code_point));
    } else {
      points.insert(points.end(), parts.begin(), parts.begin() + count);
    }
  }
  flush();
  return out;
}

}  // namespace bifocal::text
