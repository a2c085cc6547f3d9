// The memory behind the page ids on a GPU: one array of K and one of V, bf16 [L, P, HK, S, D]. All layers
// have the same shape, so a layer is an offset in pages, and one pair of tensor maps serves all.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "kernels/cuda/kv_maps.h"
#include "kernels/cuda/launch_options.h"
#include "kv/kv_cache.h"

namespace bifocal::kv {

class CudaKvCache {
 public:
  // unsupported when the layers' shapes differ or are not what the kernels take; resource_exhausted when the
  // GPU has no room. The content is zero.
  static Expected<CudaKvCache> allocate(std::span<const LayerShape> layers, int page_size, int num_pages);

  int num_pages() const { return num_pages_; }
  int page_size() const { return page_size_; }
  uint64_t num_bytes() const { return k_.bytes() + v_.bytes(); }

  // Of one layer: bf16 [P, HK, S, D].
  uint16_t* k(size_t layer) const { return k_.as<uint16_t>() + layer_offset(layer); }
  uint16_t* v(size_t layer) const { return v_.as<uint16_t>() + layer_offset(layer); }
  const kernels::cuda::KvMaps& maps() const { return maps_; }
  int32_t first_page(size_t layer) const { return static_cast<int32_t>(layer) * num_pages_; }

  // Copies the first num_tokens tokens of a page in every layer.
  Status copy_tokens(PageId source, PageId target, int num_tokens,
                     const kernels::cuda::LaunchOptions& launch) const;

 private:
  CudaKvCache() = default;
  size_t layer_offset(size_t layer) const {
    return layer * static_cast<size_t>(num_pages_) * static_cast<size_t>(page_size_) *
           static_cast<size_t>(shape_.num_kv_heads) * static_cast<size_t>(shape_.head_dim_k);
  }

  kernels::cuda::DeviceMemory k_, v_;
  kernels::cuda::KvMaps maps_;
  LayerShape shape_;
  int num_layers_ = 0;
  int page_size_ = 0;
  int num_pages_ = 0;
};

}  // namespace bifocal::kv
