// Identifiers that can't be guessed or collide (a prefix and 96 random bits), and the time of day.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal::server {

std::string random_id(std::string_view prefix);  // "chatcmpl-3f0c..."
uint64_t random_u64();
int64_t unix_time_s();

}  // namespace bifocal::server
