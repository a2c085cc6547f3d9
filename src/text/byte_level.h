// The byte-level alphabet of GPT-2: each byte has one printable character that stands for it in vocabularies.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bifocal::text {

// Appends the characters of bytes: printable Latin-1 stands for itself, the 68 others for U+0100 to U+0143.
void append_byte_characters(std::string& out, std::string_view bytes);

// The byte that a character stands for.
std::optional<uint8_t> byte_of_character(uint32_t code_point);

// The bytes that a token stands for; a token with any character outside the alphabet stands for itself.
std::string bytes_of_token(std::string_view token);

}  // namespace bifocal::text
