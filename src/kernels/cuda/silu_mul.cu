// Eight values a thread and step, over all rows at once.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) silu_mul_kernel(const SiluMul args) {
  launch_dependents();
  grid_dependency_wait();
  const int vectors = args.dim / 8;
  const int64_t row = blockIdx.y;
  const auto* gate = reinterpret_cast<const uint4*>(args.gate_up) + row * 2 * vectors;
  auto* out = reinterpret_cast<uint4*>(args.out) + row * vectors;
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= vectors) return;
  float g[8];
  float u[8];
  unpack8(gate[i], g);
  unpack8(gate[vectors + i], u);
#pragma unroll
  for (int e = 0; e < 8; ++e) g[e] = silu(g[e]) * u[e];
  out[i] = pack8(g);
}

}  // namespace

Status silu_mul(const SiluMul& args, const LaunchOptions& launch) {
  if (args.num_rows == 0) return {};
  if (args.dim <= 0 || args.dim % 8 != 0 || args.num_rows > 65535) {
    return unsupported("silu_mul on the GPU: width must be a multiple of 8 and rows at most 65535, got " +
                       std::to_string(args.num_rows) + " rows of " + std::to_string(args.dim));
  }
  const int blocks = (args.dim / 8 + kThreads - 1) / kThreads;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_rows));
  return launch_kernel(silu_mul_kernel, grid, kThreads, 0, launch, "silu_mul", args);
}

}  // namespace bifocal::kernels::cuda
