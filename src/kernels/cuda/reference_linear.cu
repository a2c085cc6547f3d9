// One warp for each element of the result.
#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/reference_linear.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kWarps = 8;

__device__ double to_double(uint16_t bits) {
  return static_cast<double>(bf16_to_float(bits));
}

__global__ void reference_kernel(const LinearArgs args) {
  const int n = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int m = static_cast<int>(blockIdx.y);
  if (n >= args.n) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint16_t* x = args.x + int64_t{m} * args.k;
  const uint16_t* w = args.w + int64_t{n} * args.k;
  double sum = 0.0;
  for (int k = lane; k < args.k; k += 32) sum += to_double(x[k]) * to_double(w[k]);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xFFFFFFFFU, sum, offset);
  if (lane != 0) return;
  const int64_t at = int64_t{m} * args.n + n;
  if (args.bias != nullptr) sum += to_double(args.bias[n]);
  if (args.residual != nullptr) sum += to_double(args.residual[at]);
  static_cast<float*>(args.out)[at] = static_cast<float>(sum);
}

}  // namespace

Status run_reference_linear(const LinearArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((args.n + kWarps - 1) / kWarps), static_cast<unsigned>(args.m));
  reference_kernel<<<grid, kWarps * 32, 0, stream>>>(args);
  return to_status(cudaGetLastError(), "reference product");
}

}  // namespace bifocal::kernels::cuda
