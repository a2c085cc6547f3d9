// SHA-256 (FIPS 180-4) of short secrets: API keys are kept and compared as digests only.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal::server {

using Sha256 = std::array<uint8_t, 32>;

Sha256 sha256(std::string_view text);
std::string to_hex(const Sha256& digest);
// Takes the same time wherever the digests differ.
bool equal_in_constant_time(const Sha256& a, const Sha256& b);

}  // namespace bifocal::server
