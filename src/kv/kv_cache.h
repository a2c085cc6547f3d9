// The memory behind the page ids: one K and one V array per layer, [P, HK, S, D].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/paged_kv.h"
#include "tensor/tensor.h"

namespace bifocal::kv {

struct LayerShape {
  int num_kv_heads = 0;
  int head_dim_k = 0;
  int head_dim_v = 0;
};

class KvCache {
 public:
  // Errors: resource_exhausted with the arithmetic. Pages are zeroed.
  static Expected<KvCache> allocate(std::span<const LayerShape> layers, DType dtype, int page_size,
                                    int num_pages);
  // Bytes that one page takes over all layers: what the memory plan divides by.
  static uint64_t bytes_per_page(std::span<const LayerShape> layers, DType dtype, int page_size);

  kernels::PagedKv layer(size_t index) const;
  int num_pages() const { return num_pages_; }
  int page_size() const { return page_size_; }
  DType dtype() const { return dtype_; }

  // Copies the first num_tokens tokens of a page in every layer: reuse inside a partly matching page.
  void copy_tokens(int32_t source_page, int32_t target_page, int num_tokens);

 private:
  std::vector<LayerShape> layers_;
  std::vector<Tensor> k_;
  std::vector<Tensor> v_;
  DType dtype_ = DType::f32;
  int page_size_ = 0;
  int num_pages_ = 0;
};

}  // namespace bifocal::kv
