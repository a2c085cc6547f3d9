// A sequence of numbers that knows its leftmost minimum: changing one number and finding the minimum take
// logarithmic time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bifocal::text {

// Each level holds the minima of 16 neighbours of the level below: 16 numbers are one cache line.
class MinTree {
 public:
  static constexpr int32_t kNone = INT32_MAX;  // larger than every number that counts

  void assign(const std::vector<int32_t>& values);
  void set(size_t index, int32_t value);

  // The leftmost index of the smallest number; SIZE_MAX when there are only kNone.
  size_t argmin() const;

 private:
  static constexpr size_t kFanout = 16;
  static int32_t min_of(const int32_t* children);

  std::vector<std::vector<int32_t>> levels_;  // [0]: the numbers; sizes are multiples of kFanout
  size_t depth_ = 0;                          // levels in use
};

}  // namespace bifocal::text
