// A value a thread and step.
#include "kernels/cuda/compare_bits.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) compare_bits_kernel(const CompareBits args) {
  launch_dependents();
  grid_dependency_wait();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int differing = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.count; i += stride) {
    const float x = args.dtype == DType::f32 ? static_cast<const float*>(args.actual)[i]
                                             : bf16_to_float(static_cast<const uint16_t*>(args.actual)[i]);
    const float left = bf16_to_float(float_to_bf16(x - bf16_to_float(args.high[i])));
    const bool same =
        float_to_bf16(x) == args.high[i] && (args.low == nullptr || left == bf16_to_float(args.low[i]));
    differing += same ? 0 : 1;
  }
  differing = __reduce_add_sync(0xFFFFFFFFU, differing);
  if (threadIdx.x % 32 == 0 && differing > 0) {
    atomicAdd(args.differing, static_cast<unsigned long long>(differing));
  }
}

__global__ void __launch_bounds__(kThreads) negate_kernel(const uint16_t* in, int64_t count, uint16_t* out) {
  launch_dependents();
  grid_dependency_wait();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    out[i] = static_cast<uint16_t>(in[i] ^ 0x8000U);
  }
}

dim3 blocks_of(int64_t count) {
  return dim3(static_cast<unsigned>(std::clamp<int64_t>((count + kThreads - 1) / kThreads, 1, 132 * 16)));
}

}  // namespace

Status compare_bits(const CompareBits& args, const LaunchOptions& launch) {
  return launch_kernel(compare_bits_kernel, blocks_of(args.count), kThreads, 0, launch, "comparing results",
                       args);
}

Status negate(const uint16_t* in, int64_t count, uint16_t* out, const LaunchOptions& launch) {
  return launch_kernel(negate_kernel, blocks_of(count), kThreads, 0, launch, "negating", in, count, out);
}

}  // namespace bifocal::kernels::cuda
