// The nearest E4M3 number (ties to even, saturating at 448, NaN stays NaN): by search, for tests.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/attention/element.h"

namespace bifocal::attention {

inline uint8_t float_to_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::fabs(value);
  uint8_t best = 0;
  for (uint8_t bits = 1; bits < 0x7f; ++bits) {
    const float error = std::fabs(kernels::cpu::e4m3_to_float(bits) - magnitude);
    const float best_error = std::fabs(kernels::cpu::e4m3_to_float(best) - magnitude);
    if (error < best_error || (error == best_error && bits % 2 == 0)) best = bits;
  }
  return static_cast<uint8_t>(best | sign);
}

}  // namespace bifocal::attention
