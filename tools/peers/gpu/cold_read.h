// The limits: how fast a kernel that only reads can fetch so many bytes that no cache holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "timing.h"

namespace bifocal::peers {

// Random bf16 values, nearly normal.
void fill_random(uint16_t* data, size_t count, uint32_t seed, float scale, cudaStream_t stream);

// Fastest of several read kernels for `bytes` bytes, in a graph, rotating over `pool` (pool_bytes, at least 1
// GB).
class ColdRead {
 public:
  ColdRead(const void* pool, size_t pool_bytes, int num_sms)
      : pool_(pool), pool_bytes_(pool_bytes), num_sms_(num_sms) {}
  double us(size_t bytes);
  // The same with 16 KB pieces in random order, `together` of them side by side.
  double random_us(size_t bytes, int together);
  const std::string& kernel() const { return kernel_; }  // that won last

 private:
  const void* pool_;
  size_t pool_bytes_;
  int num_sms_;
  std::map<size_t, double> known_;
  std::string kernel_;
};

}  // namespace bifocal::peers
