// The prefill plan kernel's result, computed one record after the other.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/prefill_plan.h"

namespace bifocal::kernels::cuda {

// Query rows of the sequences follow one another.
inline std::vector<PrefillRecord> prefill_records_on_host(const PrefillRule& rule,
                                                          const std::vector<int>& q_len,
                                                          const std::vector<int>& kv_len) {
  std::vector<int> q_begin(q_len.size());
  std::exclusive_scan(q_len.begin(), q_len.end(), q_begin.begin(), 0);
  std::vector<size_t> order(q_len.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return kv_len[a] > kv_len[b]; });
  std::vector<PrefillRecord> records;
  for (const size_t seq : order) {
    const int heads = prefill_section_heads(rule, kv_len[seq]);
    for (int i = 0; i < prefill_items(rule, q_len[seq]); ++i) {
      records.push_back(prefill_record(rule, static_cast<int>(seq), q_begin[seq], q_len[seq], kv_len[seq],
                                       prefill_tiles(rule, q_len[seq]), heads, i));
    }
  }
  return records;
}

inline std::vector<PrefillItem> prefill_items_on_host(const PrefillRule& rule, const std::vector<int>& q_len,
                                                      const std::vector<int>& kv_len) {
  std::vector<PrefillItem> items;
  for (const PrefillRecord& record : prefill_records_on_host(rule, q_len, kv_len)) {
    items.push_back(prefill_item(rule, record));
  }
  return items;
}

}  // namespace bifocal::kernels::cuda
