// From a panel's sums to C. Internal linkage: see simd.h.
#pragma once

#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

inline simd::Vec load_up_to(const float* p, int64_t n) {
  return n >= simd::kLanes ? simd::load(p) : simd::load_first(p, n);
}

// C[:, column ...] = (C + bias) + sums [m][sums_stride], for up to num_columns columns inside the block.
inline void add_to_c(const GemmBlock& block, const float* sums, int64_t sums_stride, int64_t column,
                     int64_t num_columns) {
  const int64_t end = column + num_columns < block.n ? column + num_columns : block.n;
  for (int64_t r = 0; r < block.m; ++r) {
    for (int64_t i = column; i < end; i += simd::kLanes) {
      const int64_t n = end - i;
      float* const c = block.c + r * block.ldc + i;
      simd::Vec total = simd::load(sums + r * sums_stride + i - column);
      if (block.accumulate || block.bias != nullptr) {
        simd::Vec start = block.accumulate ? load_up_to(c, n) : simd::zero();
        if (block.bias != nullptr) start = simd::add(start, load_up_to(block.bias + i, n));
        total = simd::add(start, total);
      }
      if (n >= simd::kLanes) {
        simd::store(c, total);
      } else {
        simd::store_first(c, total, n);
      }
    }
  }
}

}  // namespace
}  // namespace bifocal::kernels::cpu
