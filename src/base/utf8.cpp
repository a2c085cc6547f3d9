#include "base/utf8.h"

namespace bifocal {
namespace {

struct LeadByte {
  int length;         // of the whole sequence; 0: never a lead byte
  unsigned char low;  // bounds of the second byte, which exclude overlong forms and surrogates
  unsigned char high;
};

LeadByte classify(unsigned char b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xC2) return {0, 0, 0};
  if (b < 0xE0) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b < 0xF0) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b < 0xF4) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes of the sequence that starts text and are well formed so far.
int well_formed_prefix(std::string_view text, const LeadByte& lead) {
  if (lead.length == 0) return 0;
  int n = 1;
  while (n < lead.length && static_cast<size_t>(n) < text.size()) {
    const auto b = static_cast<unsigned char>(text[static_cast<size_t>(n)]);
    const unsigned char low = n == 1 ? lead.low : 0x80;
    const unsigned char high = n == 1 ? lead.high : 0xBF;
    if (b < low || b > high) break;
    ++n;
  }
  return n;
}

}  // namespace

Utf8Char decode_utf8(std::string_view text) {
  const auto b0 = static_cast<unsigned char>(text[0]);
  const LeadByte lead = classify(b0);
  if (lead.length == 1) return {b0, 1, true};
  const int n = well_formed_prefix(text, lead);
  if (lead.length == 0 || n < lead.length) return {kReplacementCharacter, n == 0 ? 1 : n, false};
  static constexpr unsigned char kLeadMask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  uint32_t code_point = b0 & kLeadMask[lead.length];
  for (int i = 1; i < lead.length; ++i) {
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[static_cast<size_t>(i)]) & 0x3FU);
  }
  return {code_point, lead.length, true};
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (!c.valid) return false;
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return true;
}

void append_utf8(std::string& out, uint32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacementCharacter;
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.valid) {
      out.append(text.substr(0, static_cast<size_t>(c.length)));
    } else {
      append_utf8(out, kReplacementCharacter);
    }
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return out;
}

int incomplete_utf8_suffix(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const LeadByte lead = classify(static_cast<unsigned char>(tail[0]));
    if (lead.length == 0) continue;  // a continuation byte: look further back
    const bool open =
        lead.length > static_cast<int>(back) && well_formed_prefix(tail, lead) == static_cast<int>(back);
    return open ? static_cast<int>(back) : 0;
  }
  return 0;
}

}  // namespace bifocal
