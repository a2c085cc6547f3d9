// Prefixes that several sequences of a step have in common, found once per plan from their page tables: pages
// with the same id hold the same keys. The keys of such a prefix need to be read once for the rows of all
// sequences (cascade attention, Ye et al. 2024); since spans are folded in index order anyway, the result is
// the same to the last bit.
#pragma once

#include <cstdint>

#include "attention/backend.h"
#include "attention/span_plan.h"

namespace bifocal::attention {

// Members first_member, ... of buffers.members share their first num_spans spans.
struct SharedGroup {
  int32_t first_member = 0;
  int32_t num_members = 0;
  int32_t num_spans = 0;
};

// Memory for the search and its results; none for classes with a sliding window, whose rows do not see far
// prefixes.
Status allocate_shared_prefix_buffers(const AttentionDesc& desc, const PlanLimits& limits,
                                      PlanBuffers* buffers);

// Writes buffers.groups and buffers.members, and what each sequence shares to buffers.sequences; gives the
// number of groups. Sequences with more than max_rows rows per KV head keep to themselves: their tiles are
// full as they are. Never allocates.
int find_shared_prefixes(const AttentionDesc& desc, const AttentionBatch& batch, int max_rows,
                         PlanBuffers& buffers);

}  // namespace bifocal::attention
