// The prefill plan kernel's result, computed one record after the other.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/prefill_plan.h"

namespace bifocal::kernels::cuda {

// Query rows of the sequences follow one another.
inline std::vector<PrefillItem> prefill_items_on_host(const PrefillRule& rule, const std::vector<int>& q_len,
                                                      const std::vector<int>& kv_len) {
  std::vector<int> q_begin(q_len.size());
  std::exclusive_scan(q_len.begin(), q_len.end(), q_begin.begin(), 0);
  std::vector<size_t> order(q_len.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return kv_len[a] > kv_len[b]; });
  std::vector<PrefillItem> items;
  for (const size_t seq : order) {
    for (int i = 0; i < prefill_items(rule, q_len[seq]); ++i) {
      items.push_back(prefill_item(rule, static_cast<int>(seq), q_begin[seq], q_len[seq], kv_len[seq], i));
    }
  }
  return items;
}

}  // namespace bifocal::kernels::cuda
