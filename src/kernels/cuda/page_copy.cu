// One block for each layer, KV head and array: the tokens of a head lie side by side.
#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/page_copy.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) copy_page_kernel(const PageCopy args) {
  launch_dependents();
  grid_dependency_wait();
  uint16_t* base = blockIdx.z == 0 ? args.k : args.v;
  const int64_t head_elements = int64_t{args.page_size} * args.head_dim;
  const int64_t page_elements = head_elements * args.num_kv_heads;
  const int64_t layer_page = int64_t{args.num_pages} * blockIdx.y;
  const int64_t head = head_elements * blockIdx.x;
  const auto* source =
      reinterpret_cast<const uint4*>(base + (layer_page + args.source) * page_elements + head);
  auto* target = reinterpret_cast<uint4*>(base + (layer_page + args.target) * page_elements + head);
  const int count = args.num_tokens * args.head_dim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) target[i] = source[i];
}

}  // namespace

Status copy_page(const PageCopy& args, const LaunchOptions& launch) {
  if (args.head_dim % 8 != 0 || args.num_tokens > args.page_size || args.source == args.target) {
    return internal_error("page copy: head dim, tokens or pages don't fit");
  }
  const dim3 grid(static_cast<unsigned>(args.num_kv_heads), static_cast<unsigned>(args.num_layers), 2);
  return launch_kernel(copy_page_kernel, grid, kThreads, 0, launch, "page copy", args);
}

}  // namespace bifocal::kernels::cuda
