// Where each key of each sequence lies, as one list per sequence: cached prefix and new tokens alike, built
// once per step from the page tables. A kernel that reads it needs to know neither pages nor where the prefix
// ends.
#pragma once

#include "attention/backend.h"

namespace bifocal::attention {

// Four bytes for every key that the limits allow.
Status allocate_index_list(const PlanLimits& limits, PlanBuffers* buffers);

// Key t of a sequence is row indices[index_begin + t] of the cache, rows counted as in
// kernels::cpu::kv_view_of_rows; keys that no row of the sequence sees are left out. Writes index_begin to
// buffers.sequences. Never allocates.
void build_index_list(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers);

}  // namespace bifocal::attention
