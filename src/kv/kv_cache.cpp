#include "kv/kv_cache.h"

#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/progress.h"

namespace bifocal::kv {
namespace {

constexpr uint64_t kAlignmentBytes = 4096;  // each array starts on a memory page of its own

uint64_t array_bytes_per_page(int num_kv_heads, int head_dim, DType dtype, int page_size) {
  return static_cast<uint64_t>(num_kv_heads) * static_cast<uint64_t>(page_size) *
         static_cast<uint64_t>(head_dim) * size_of(dtype);
}

uint64_t v_bytes_per_page(const LayerShape& layer, DType dtype, int page_size) {
  return layer.values_in_keys ? 0
                              : array_bytes_per_page(layer.num_kv_heads, layer.head_dim_v, dtype, page_size);
}

uint64_t align(uint64_t bytes) {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

bool plausible(const LayerShape& layer) {
  constexpr int kMaxHeads = 1 << 10;
  constexpr int kMaxHeadDim = 1 << 11;
  return layer.num_kv_heads >= 1 && layer.num_kv_heads <= kMaxHeads && layer.head_dim_k >= 1 &&
         layer.head_dim_k <= kMaxHeadDim && layer.head_dim_v >= 1 && layer.head_dim_v <= kMaxHeadDim &&
         (!layer.values_in_keys || layer.head_dim_v <= layer.head_dim_k);
}

}  // namespace

uint64_t KvCache::bytes_per_page(std::span<const LayerShape> layers, DType dtype, int page_size) {
  uint64_t bytes = 0;
  for (const LayerShape& layer : layers) {
    bytes += array_bytes_per_page(layer.num_kv_heads, layer.head_dim_k, dtype, page_size) +
             v_bytes_per_page(layer, dtype, page_size);
  }
  return bytes;
}

Expected<KvCache> KvCache::allocate(std::span<const LayerShape> layers, DType dtype, int page_size,
                                    int num_pages, int num_window_pages) {
  if (page_size < 1 || page_size > kMaxPageSize) {
    return invalid_argument(fmt::format("page size {}, expected 1 to {} tokens", page_size, kMaxPageSize));
  }
  if (num_pages < 1)
    return invalid_argument(fmt::format("KV cache of {} pages, expected at least 1", num_pages));
  BIFOCAL_CHECK_GE(num_window_pages, 0);
  if (layers.empty()) return invalid_argument("KV cache without layers");
  KvCache cache;
  cache.dtype_ = dtype;
  cache.page_size_ = page_size;
  cache.num_pages_ = num_pages;
  cache.num_window_pages_ = num_window_pages;
  uint64_t bytes = 0;
  bool fits = true;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerShape& shape = layers[i];
    if (!plausible(shape)) {
      return invalid_argument(fmt::format("layer {}: KV shape of {} heads, head dims {} and {}", i,
                                          shape.num_kv_heads, shape.head_dim_k, shape.head_dim_v));
    }
    // At most 2^10 heads * 2^8 tokens * 2^12 dims * 2^3 bytes * 2^31 pages: no overflow within one array.
    const auto pages =
        static_cast<uint64_t>(shape.windowed && num_window_pages > 0 ? num_window_pages : num_pages);
    cache.layers_.push_back({shape, bytes});
    const uint64_t layer_bytes = align(bytes_per_page({&shape, 1}, dtype, page_size) * pages);
    fits = fits && !__builtin_add_overflow(bytes, layer_bytes, &bytes);
  }
  auto memory = fits ? HostMemory::allocate(bytes) : Expected<HostMemory>(resource_exhausted("too large"));
  if (!memory.ok()) {
    return resource_exhausted(fmt::format(
        "no memory for the KV cache: {} pages{} x {} tokens x {} layers in {} = {}; ask for fewer tokens "
        "(--max-total-tokens, --kv-cache-memory) or a smaller type (--kv-cache-dtype)",
        num_pages,
        num_window_pages > 0 ? fmt::format(" (for layers with a window {})", num_window_pages) : "",
        page_size, layers.size(), to_string(dtype), fits ? format_bytes(bytes) : "over 16 EiB"));
  }
  cache.memory_ = *std::move(memory);
  return cache;
}

kernels::PagedKv KvCache::layer(size_t index) const {
  BIFOCAL_CHECK_LT(index, layers_.size());
  const Layer& layer = layers_[index];
  kernels::PagedKv kv;
  kv.k = base() + layer.offset;
  kv.dtype = dtype_;
  kv.num_kv_heads = layer.shape.num_kv_heads;
  kv.head_dim_k = layer.shape.head_dim_k;
  kv.head_dim_v = layer.shape.head_dim_v;
  kv.page_size = page_size_;
  if (!layer.shape.values_in_keys) {
    kernels::set_paired_strides(kv);
  } else {
    kernels::set_dense_strides(kv);
    kv.v = kv.k;
    kv.v_token_stride = kv.k_token_stride;
    kv.v_head_stride = kv.k_head_stride;
    kv.v_page_stride = kv.k_page_stride;
  }
  return kv;
}

PageKind KvCache::page_kind(size_t layer) const {
  BIFOCAL_CHECK_LT(layer, layers_.size());
  return num_window_pages_ > 0 && layers_[layer].shape.windowed ? PageKind::window : PageKind::full;
}

void KvCache::copy_tokens(PageKind kind, PageId source_page, PageId target_page, int num_tokens) {
  BIFOCAL_CHECK_GE(source_page, 0);
  BIFOCAL_CHECK_LT(source_page, num_pages(kind));
  BIFOCAL_CHECK_GE(target_page, 0);
  BIFOCAL_CHECK_LT(target_page, num_pages(kind));
  BIFOCAL_CHECK_NE(source_page, target_page);
  BIFOCAL_CHECK_GE(num_tokens, 0);
  BIFOCAL_CHECK_LE(num_tokens, page_size_);
  const auto element = static_cast<int64_t>(size_of(dtype_));
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (page_kind(i) != kind) continue;
    const kernels::PagedKv kv = layer(i);
    const auto copy_heads = [&](void* array, int64_t page_stride, int64_t head_stride, int64_t token_stride) {
      auto* const base = static_cast<std::byte*>(array);
      for (int64_t head = 0; head < kv.num_kv_heads; ++head) {
        std::memcpy(base + (target_page * page_stride + head * head_stride) * element,
                    base + (source_page * page_stride + head * head_stride) * element,
                    static_cast<size_t>(num_tokens * token_stride * element));
      }
    };
    copy_heads(kv.k, kv.k_page_stride, kv.k_head_stride, kv.k_token_stride);
    if (layers_[i].shape.values_in_keys) continue;
    copy_heads(kv.v, kv.v_page_stride, kv.v_head_stride, kv.v_token_stride);
  }
}

}  // namespace bifocal::kv
