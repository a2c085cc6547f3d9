// The draws that numpy.random (its legacy functions) and Python's random make from a seed, so that a seed
// gives the same requests here as in SGLang's bench_serving. Generator: MT19937 (Matsumoto and Nishimura
// 1998).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace bifocal::bench {

class Mt19937 {
 public:
  explicit Mt19937(uint32_t seed);                  // init_genrand
  explicit Mt19937(std::span<const uint32_t> key);  // init_by_array; key not empty
  uint32_t next();
  double uniform();  // [0, 1), 53 bits: genrand_res53

 private:
  static constexpr size_t kSize = 624;
  void refill();
  std::array<uint32_t, kSize> state_{};
  size_t position_ = kSize;
};

class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : generator_(seed) {}
  // randint(low, high): low <= value < high, with high - low at most 2^32.
  int64_t randint(int64_t low, int64_t high);
  double exponential(double scale);

 private:
  Mt19937 generator_;
};

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed) : generator_(std::span<const uint32_t>(&seed, 1)) {}
  uint32_t below(uint32_t bound);   // 0 <= value < bound; bound at least 1
  uint32_t choice(uint32_t bound);  // as choices(), which draws otherwise than below()
  template <class Container>
  void shuffle(Container& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[below(static_cast<uint32_t>(i))]);
    }
  }

 private:
  Mt19937 generator_;
};

}  // namespace bifocal::bench
