// Bits of two results on the device, for checks.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"
#include "tensor/dtype.h"

namespace bifocal::kernels::cuda {

// Adds to *differing how many i there are where actual[i], rounded to bf16, is not high[i], or what that
// rounding leaves, rounded too, is not low[i].
struct CompareBits {
  const void* actual = nullptr;
  DType dtype = DType::bf16;       // of actual, or f32
  const uint16_t* high = nullptr;  // bf16
  const uint16_t* low = nullptr;   // bf16 or null
  int64_t count = 0;
  unsigned long long* differing = nullptr;
};
Status compare_bits(const CompareBits& args, const LaunchOptions& launch);

// out[i] = -in[i], bf16
Status negate(const uint16_t* in, int64_t count, uint16_t* out, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
