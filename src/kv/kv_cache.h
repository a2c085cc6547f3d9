// The memory behind the page ids: one array per layer, of each page first the keys, [HK, S, D], then the
// values; a layer whose values are part of its keys (MLA's latents) has the keys only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/paged_kv.h"
#include "kv/page_id.h"
#include "tensor/host_memory.h"

namespace bifocal::kv {

struct LayerShape {
  int num_kv_heads = 0;         // HK
  int head_dim_k = 0;           // D of K
  int head_dim_v = 0;           // D of V
  bool values_in_keys = false;  // V is the first head_dim_v values of each row of K
  bool windowed = false;        // reads the last keys only: in window pages, where there are any
};

// One reservation of zero pages that the system fills in when they are first touched: starting with a large
// cache costs nothing, and a lightly used server never holds it all.
class KvCache {
 public:
  // Errors: invalid_argument for shapes and page sizes that can't be; resource_exhausted with the arithmetic.
  // num_window_pages: of layers with a window; 0: these lie in num_pages pages like the others.
  static Expected<KvCache> allocate(std::span<const LayerShape> layers, DType dtype, int page_size,
                                    int num_pages, int num_window_pages = 0);
  // Bytes that one page takes over all layers: what the memory plan divides by.
  static uint64_t bytes_per_page(std::span<const LayerShape> layers, DType dtype, int page_size);

  kernels::PagedKv layer(size_t index) const;
  PageKind page_kind(size_t layer) const;
  size_t num_layers() const { return layers_.size(); }
  int num_pages(PageKind kind = PageKind::full) const {
    return kind == PageKind::full ? num_pages_ : num_window_pages_;
  }
  int page_size() const { return page_size_; }
  DType dtype() const { return dtype_; }
  size_t num_bytes() const { return memory_.num_bytes(); }

  // Copies the first num_tokens tokens of a page in every layer of its kind: reuse inside a partly matching
  // page.
  void copy_tokens(PageKind kind, PageId source_page, PageId target_page, int num_tokens);

 private:
  struct Layer {
    LayerShape shape;
    size_t offset = 0;  // bytes from the start of the reservation
  };
  KvCache() = default;
  std::byte* base() const { return static_cast<std::byte*>(memory_.data()); }

  HostMemory memory_;
  std::vector<Layer> layers_;
  DType dtype_ = DType::f32;
  int page_size_ = 0;
  int num_pages_ = 0;
  int num_window_pages_ = 0;
};

}  // namespace bifocal::kv
