// Four words a thread and step; what limits it is the arithmetic of mix64 rather than memory.
#include <cuda_runtime.h>

#include <algorithm>

#include "base/hash.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ uint64_t word(const RandomFill& args, int64_t i) {
  return (mix64(args.key + static_cast<uint64_t>(i)) & args.random_mask) | args.constant;
}

__global__ void __launch_bounds__(kThreads) random_fill_kernel(const RandomFill args) {
  launch_dependents();
  grid_dependency_wait();
  const int64_t words = args.num_bytes / 8;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  auto* out = static_cast<uint64_t*>(args.data);
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; i < words; i += stride) out[i] = word(args, i);
  if (i == words) {
    uint64_t last = word(args, words);
    auto* halves = reinterpret_cast<uint16_t*>(out + words);
    for (int64_t h = 0; h < args.num_bytes % 8 / 2; ++h, last >>= 16) halves[h] = static_cast<uint16_t>(last);
  }
}

}  // namespace

Status random_fill(const RandomFill& args, const LaunchOptions& launch) {
  if (args.num_bytes == 0) return {};
  if (args.num_bytes % 2 != 0 || reinterpret_cast<uintptr_t>(args.data) % 8 != 0) {
    return invalid_argument("random_fill: an even number of bytes at a multiple of 8, got " +
                            std::to_string(args.num_bytes));
  }
  const int64_t blocks = std::clamp<int64_t>((args.num_bytes / 8 + kThreads) / kThreads, 1, 132 * 64);
  return launch_kernel(random_fill_kernel, dim3(static_cast<unsigned>(blocks)), kThreads, 0, launch,
                       "random_fill", args);
}

}  // namespace bifocal::kernels::cuda
