// One block for each row, which stays in registers: kVectors times eight values a thread.
#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

template <int kVectors>
__global__ void __launch_bounds__(1024) rms_norm_kernel(const RmsNorm args) {
  __shared__ float scratch[32];
  launch_dependents();
  const int vectors = args.dim / 8;
  const int threads = static_cast<int>(blockDim.x);
  const int first = static_cast<int>(threadIdx.x);
  const int64_t row = int64_t{blockIdx.x} * vectors;
  const auto* w = reinterpret_cast<const uint4*>(args.w);
  uint4 weight[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const int i = first + j * threads;
    weight[j] = i < vectors ? __ldg(w + i) : uint4{0, 0, 0, 0};
  }
  grid_dependency_wait();

  auto* residual = reinterpret_cast<uint4*>(args.residual) + row;
  const auto* x = reinterpret_cast<const uint4*>(args.x) + row;
  float values[kVectors][8] = {};
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const int i = first + j * threads;
    if (i >= vectors) continue;
    unpack8(residual[i], values[j]);
    if (args.x != nullptr) {
      float added[8];
      unpack8(x[i], added);
#pragma unroll
      for (int e = 0; e < 8; ++e) values[j][e] += added[e];
      const uint4 rounded = pack8(values[j]);
      residual[i] = rounded;
      unpack8(rounded, values[j]);  // what the next layers see
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += values[j][e] * values[j][e];
  }
  const float scale = rsqrtf(block_sum(sum, scratch) / static_cast<float>(args.dim) + args.eps);
  auto* out = reinterpret_cast<uint4*>(args.out) + row;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const int i = first + j * threads;
    if (i >= vectors) continue;
    float factor[8];
    unpack8(weight[j], factor);
#pragma unroll
    for (int e = 0; e < 8; ++e) factor[e] *= values[j][e] * scale;
    out[i] = pack8(factor);
  }
}

}  // namespace

Status rms_norm(const RmsNorm& args, const LaunchOptions& launch) {
  if (args.num_rows == 0) return {};
  if (args.dim <= 0 || args.dim % 8 != 0 || args.dim > 16384) {
    return unsupported("rms_norm on the GPU: row width must be a multiple of 8 up to 16384, got " +
                       std::to_string(args.dim));
  }
  const dim3 grid(static_cast<unsigned>(args.num_rows));
  const int vectors = args.dim / 8;
  const auto run = [&](auto kernel, int per_thread) {
    const int threads = ((vectors + per_thread - 1) / per_thread + 31) / 32 * 32;
    return launch_kernel(kernel, grid, threads, 0, launch, "rms_norm", args);
  };
  if (vectors <= 1024) return run(rms_norm_kernel<1>, 1);
  return run(rms_norm_kernel<2>, 2);
}

}  // namespace bifocal::kernels::cuda
