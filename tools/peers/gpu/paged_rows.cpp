#include "paged_rows.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace bifocal::peers {

kernels::PagedKv paged_kv(const Pools& pools, int kv_heads, int head_dim) {
  kernels::PagedKv kv;
  kv.dtype = DType::bf16;
  kv.num_kv_heads = kv_heads;
  kv.head_dim_k = kv.head_dim_v = head_dim;
  kv.page_size = kPageSize;
  kv.k_token_stride = kv.v_token_stride = head_dim;
  kv.k_head_stride = kv.v_head_stride = int64_t{kPageSize} * head_dim;
  kv.k_page_stride = kv.v_page_stride = kv.k_head_stride * kv_heads;
  kv.k = pools.k;
  kv.v = pools.v;
  return kv;
}

PageTables shuffled_pages(const std::vector<int>& kv_len) {
  const auto pages_of = [](int keys) { return int64_t{keys + kPageSize - 1} / kPageSize; };
  PageTables tables;
  for (const int keys : kv_len) {
    tables.num_pages += pages_of(keys);
    tables.stride = std::max(tables.stride, pages_of(keys));
  }
  std::vector<int32_t> order(static_cast<size_t>(tables.num_pages));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  tables.pages.resize(kv_len.size() * static_cast<size_t>(tables.stride));
  size_t next = 0;
  for (size_t i = 0; i < kv_len.size(); ++i) {
    const auto row = tables.pages.begin() + static_cast<int64_t>(i) * tables.stride;
    for (int64_t p = 0; p < pages_of(kv_len[i]); ++p) row[p] = order[next++];
  }
  return tables;
}

}  // namespace bifocal::peers
