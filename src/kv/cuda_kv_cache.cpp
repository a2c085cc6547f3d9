#include "kv/cuda_kv_cache.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <limits>

#include "base/progress.h"
#include "kernels/cuda/page_copy.h"

namespace bifocal::kv {

using kernels::cuda::DeviceMemory;
using kernels::cuda::to_status;

Expected<CudaKvCache> CudaKvCache::allocate(std::span<const LayerShape> layers, int page_size,
                                            int num_pages) {
  if (layers.empty()) return invalid_argument("KV cache without layers");
  for (const LayerShape& layer : layers) {
    const LayerShape& first = layers.front();
    if (layer.values_in_keys || layer.num_kv_heads != first.num_kv_heads ||
        layer.head_dim_k != first.head_dim_k || layer.head_dim_v != first.head_dim_k) {
      return unsupported("KV cache on a GPU: all layers must have the same heads, with values of their own");
    }
  }
  const auto num_layers = static_cast<int64_t>(layers.size());
  if (num_layers * num_pages > std::numeric_limits<int32_t>::max()) {
    return invalid_argument(
        fmt::format("KV cache of {} pages in {} layers: more than 2^31 in all", num_pages, layers.size()));
  }
  CudaKvCache cache;
  cache.shape_ = layers.front();
  cache.num_layers_ = static_cast<int>(num_layers);
  cache.page_size_ = page_size;
  cache.num_pages_ = num_pages;
  const size_t bytes = cache.layer_offset(layers.size()) * sizeof(uint16_t);
  for (DeviceMemory* memory : {&cache.k_, &cache.v_}) {
    auto allocated = DeviceMemory::allocate(bytes);
    if (!allocated.ok()) {
      return resource_exhausted(fmt::format(
          "no memory for the KV cache: {} pages x {} tokens x {} layers = {}; lower "
          "--mem-fraction-static, --max-total-tokens or --kv-cache-memory ({})",
          num_pages, page_size, layers.size(), format_bytes(2 * bytes), allocated.status().message()));
    }
    *memory = *std::move(allocated);
    // Kernels read whole tiles: what lies behind a sequence's end is masked, and must not be NaN.
    BIFOCAL_RETURN_IF_ERROR(to_status(cudaMemset(memory->as<void>(), 0, bytes), "clearing the KV cache"));
  }
  kernels::PagedKv kv;
  kv.k = cache.k_.as<void>();
  kv.v = cache.v_.as<void>();
  kv.dtype = DType::bf16;
  kv.num_kv_heads = cache.shape_.num_kv_heads;
  kv.head_dim_k = kv.head_dim_v = cache.shape_.head_dim_k;
  kv.page_size = page_size;
  kernels::set_dense_strides(kv);
  BIFOCAL_ASSIGN_OR_RETURN(cache.maps_,
                           kernels::cuda::make_kv_maps(kv, static_cast<int>(num_layers * num_pages)));
  return cache;
}

Status CudaKvCache::copy_tokens(PageId source, PageId target, int num_tokens,
                                const kernels::cuda::LaunchOptions& launch) const {
  kernels::cuda::PageCopy args;
  args.k = k_.as<uint16_t>();
  args.v = v_.as<uint16_t>();
  args.num_layers = num_layers_;
  args.num_pages = num_pages_;
  args.num_kv_heads = shape_.num_kv_heads;
  args.page_size = page_size_;
  args.head_dim = shape_.head_dim_k;
  args.source = source;
  args.target = target;
  args.num_tokens = num_tokens;
  return kernels::cuda::copy_page(args, launch);
}

}  // namespace bifocal::kv
