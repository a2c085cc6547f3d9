// The phases that may be served by different backends.
#pragma once

#include <cstdint>
#include <string_view>

namespace bifocal::attention {

enum class Phase : uint8_t {
  prefill,  // many query tokens, with or without a cached prefix
  decode,   // one query token
  verify,   // a few query tokens, for speculation
};
constexpr int kNumPhases = 3;

std::string_view to_string(Phase phase);

}  // namespace bifocal::attention
