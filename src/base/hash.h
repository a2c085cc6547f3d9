// Stateless mixing functions: the same inputs give the same bits on every machine, thread and batch.
#pragma once

#include <cstdint>

namespace bifocal {

// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits with full avalanche.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

constexpr uint64_t hash_combine(uint64_t a, uint64_t b) {
  return mix64(a ^ mix64(b));
}

// Uniform in (0, 1), never 0 or 1: safe under log(). 52 bits, so that adding the half is exact.
constexpr double unit_uniform(uint64_t bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

// A small seeded generator for tests, simulators and dummy weights.
class SplitMix64 {
 public:
  explicit constexpr SplitMix64(uint64_t seed) : state_(seed) {}
  constexpr uint64_t next() {
    const uint64_t out = mix64(state_);
    state_ += 0x9e3779b97f4a7c15ULL;
    return out;
  }
  constexpr uint64_t below(uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  constexpr double uniform() { return unit_uniform(next()); }

 private:
  uint64_t state_;
};

}  // namespace bifocal
