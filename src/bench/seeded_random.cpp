#include "bench/seeded_random.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace bifocal::bench {
namespace {

constexpr size_t kShift = 397;

}  // namespace

Mt19937::Mt19937(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t i = 1; i < kSize; ++i) {
    state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }
}

Mt19937::Mt19937(std::span<const uint32_t> key) : Mt19937(19650218U) {
  size_t i = 1;
  const auto advance = [&] {
    if (++i < kSize) return;
    state_[0] = state_[kSize - 1];
    i = 1;
  };
  const auto mixed = [&](uint32_t factor) {
    return state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * factor);
  };
  size_t j = 0;
  for (size_t left = std::max(kSize, key.size()); left > 0; --left) {
    state_[i] = mixed(1664525U) + key[j] + static_cast<uint32_t>(j);
    advance();
    if (++j == key.size()) j = 0;
  }
  for (size_t left = kSize - 1; left > 0; --left) {
    state_[i] = mixed(1566083941U) - static_cast<uint32_t>(i);
    advance();
  }
  state_[0] = 0x80000000U;
}

void Mt19937::refill() {
  for (size_t i = 0; i < kSize; ++i) {
    const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % kSize] & 0x7fffffffU);
    state_[i] = state_[(i + kShift) % kSize] ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908b0dfU : 0U);
  }
  position_ = 0;
}

uint32_t Mt19937::next() {
  if (position_ == kSize) refill();
  uint32_t y = state_[position_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

double Mt19937::uniform() {
  const uint32_t high = next() >> 5;
  const uint32_t low = next() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

int64_t NumpyRandom::randint(int64_t low, int64_t high) {
  BIFOCAL_CHECK_LT(low, high);
  const uint64_t range = static_cast<uint64_t>(high - low) - 1;
  BIFOCAL_CHECK_LE(range, uint64_t{UINT32_MAX});
  if (range == 0) return low;  // draws nothing
  const auto mask = static_cast<uint32_t>((uint64_t{1} << std::bit_width(range)) - 1);
  uint32_t value = generator_.next() & mask;
  while (value > range) value = generator_.next() & mask;
  return low + int64_t{value};
}

double NumpyRandom::exponential(double scale) {
  return -scale * std::log1p(-generator_.uniform());
}

uint32_t PythonRandom::below(uint32_t bound) {
  BIFOCAL_CHECK_GT(bound, 0U);
  const auto bits = static_cast<uint32_t>(std::bit_width(bound));
  uint32_t value = generator_.next() >> (32 - bits);
  while (value >= bound) value = generator_.next() >> (32 - bits);
  return value;
}

uint32_t PythonRandom::choice(uint32_t bound) {
  return static_cast<uint32_t>(generator_.uniform() * bound);
}

}  // namespace bifocal::bench
