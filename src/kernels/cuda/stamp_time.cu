#include "kernels/cuda/stamp_time.h"

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

__global__ void stamp_kernel(int64_t* to_ns) {
  int64_t now_ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now_ns));
  *to_ns = now_ns;
}

}  // namespace

Status stamp_time(int64_t* to_ns, const LaunchOptions& launch) {
  return launch_kernel(stamp_kernel, dim3(1), 1, 0, launch, "stamp_time", to_ns);
}

}  // namespace bifocal::kernels::cuda
