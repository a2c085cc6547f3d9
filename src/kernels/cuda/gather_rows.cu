// One block for each row, 16 bytes a thread.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/chosen_token.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

__global__ void gather_kernel(const GatherRows args) {
  launch_dependents();
  grid_dependency_wait();
  const int row = static_cast<int>(blockIdx.x);
  const int vectors = args.dim / 8;
  int64_t id = args.ids[row];
  if (args.chosen != nullptr && id <= kFirstChosen) id = args.chosen[kFirstChosen - id];
  const bool inside = id >= 0 && id < args.table_rows;
  const auto* from = reinterpret_cast<const uint4*>(args.table) + (inside ? id : 0) * vectors;
  auto* to = reinterpret_cast<uint4*>(args.out) + int64_t{row} * vectors;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += static_cast<int>(blockDim.x)) {
    to[i] = inside ? __ldg(from + i) : uint4{0, 0, 0, 0};
  }
}

}  // namespace

Status gather_rows(const GatherRows& args, const LaunchOptions& launch) {
  if (args.num_rows == 0) return {};
  if (args.dim <= 0 || args.dim % 8 != 0) {
    return invalid_argument("gather_rows: row width must be a positive multiple of 8, got " +
                            std::to_string(args.dim));
  }
  const int threads = std::min(1024, (args.dim / 8 + 31) / 32 * 32);
  return launch_kernel(gather_kernel, dim3(static_cast<unsigned>(args.num_rows)), threads, 0, launch,
                       "gather_rows", args);
}

}  // namespace bifocal::kernels::cuda
