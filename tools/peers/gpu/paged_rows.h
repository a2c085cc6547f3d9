// The pools as a paged cache: where sequences lie in it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/paged_kv.h"
#include "rows.h"

namespace bifocal::peers {

constexpr int kPageSize = 64;

// Pages of [KV heads, page size, head dim], as models have them on a GPU.
kernels::PagedKv paged_kv(const Pools& pools, int kv_heads, int head_dim);

// Sequences over pages in random order.
struct PageTables {
  std::vector<int32_t> pages;  // [B, stride]
  int64_t stride = 0;
  int64_t num_pages = 0;  // of all sequences
};
PageTables shuffled_pages(const std::vector<int>& kv_len);

}  // namespace bifocal::peers
