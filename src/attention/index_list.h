// Where the keys of each sequence lie, as one list per sequence: cached prefix and new tokens alike, built
// once per step from the page tables. A kernel that reads it needs to know neither pages nor where the prefix
// ends.
#pragma once

#include <numeric>

#include "attention/backend.h"

namespace bifocal::attention {

// Keys per entry, which lie in consecutive rows of the cache: one, or as many as pages of this size allow up
// to 16.
inline int index_run(int page_size) {
  return std::gcd(page_size, 16);
}

// An entry for every run of keys that the limits allow.
Status allocate_index_list(const AttentionDesc& desc, const PlanLimits& limits, PlanBuffers* buffers);

// Run i of a sequence begins at row indices[index_begin + i] of the cache, rows counted as in
// kernels::cpu::kv_view_of_rows; runs that no row of the sequence sees are left out. Writes index_begin to
// buffers.sequences. Never allocates.
void build_index_list(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers);

}  // namespace bifocal::attention
