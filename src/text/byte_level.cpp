#include "text/byte_level.h"

#include <array>

#include "base/utf8.h"

namespace bifocal::text {
namespace {

constexpr uint32_t kAlphabetEnd = 0x144;

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<uint16_t, 256> character_of_byte = {};
  std::array<int16_t, kAlphabetEnd> byte_of_character = {};  // -1: not in the alphabet

  constexpr Alphabet() {
    byte_of_character.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t character = stands_for_itself(byte) ? byte : next++;
      character_of_byte[byte] = static_cast<uint16_t>(character);
      byte_of_character[character] = static_cast<int16_t>(byte);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

void append_byte_characters(std::string& out, std::string_view bytes) {
  for (const char c : bytes) append_utf8(out, kAlphabet.character_of_byte[static_cast<unsigned char>(c)]);
}

std::optional<uint8_t> byte_of_character(uint32_t code_point) {
  if (code_point >= kAlphabetEnd || kAlphabet.byte_of_character[code_point] < 0) return std::nullopt;
  return static_cast<uint8_t>(kAlphabet.byte_of_character[code_point]);
}

std::string bytes_of_token(std::string_view token) {
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Char c = decode_utf8(rest);
    const auto byte = byte_of_character(c.code_point);
    if (!byte) return std::string(token);
    bytes += static_cast<char>(*byte);
    rest.remove_prefix(static_cast<size_t>(c.length));
  }
  return bytes;
}

}  // namespace bifocal::text
