// How a step's attention is cut into work. The unit is a tile of query rows of one sequence, for one KV head
// or several; its keys fall into spans that end at absolute multiples of kSpanKeys. Every span is computed
// from scratch and spans are folded in index order, whoever computes them: where the cuts fall changes the
// speed, never a bit of the result.
//
// Spans that several sequences share (attention/shared_prefix.h) are computed once, by units that stack the
// rows of all of them. They run first; the sequences' own units go on from the folded states they leave.
#pragma once

#include <cstdint>

#include "attention/backend.h"
#include "kernels/cpu/attention/span.h"

namespace bifocal::attention {

constexpr int kSpanKeys = 512;

// One unit, or some spans of one, by one thread.
struct WorkItem {
  int32_t seq = 0;          // of a shared unit: its first member, an index of buffers.members
  int32_t num_members = 0;  // sequences whose rows a shared unit stacks; 0: a sequence's own unit
  int32_t kv_head = 0;      // the first
  int32_t num_kv_heads = 1;
  int32_t row_begin = 0;   // of the sequence's q_len * G rows
  int32_t num_rows = 0;    // for each KV head
  int32_t span_begin = 0;  // this item's spans
  int32_t span_end = 0;
  int32_t split = -1;  // index of the unit's SplitUnit when others compute its other spans
};

// A unit whose spans are shared out. Its partial states lie in slots first_slot, ..., one per span.
struct SplitUnit {
  int32_t first_slot = 0;
  int32_t first_span = 0;
  int32_t num_spans = 0;
  int32_t num_items = 0;
  int32_t done = 0;  // items finished; the last one folds and resets it
};

// What every sequence of the step needs to know beside its lengths.
struct SequencePlan {
  int32_t shared_spans = 0;  // its first spans, which shared units compute
  int32_t shared_row = 0;    // where the states after them lie: [HK, q_len * G] rows of buffers.shared
};

// What the planner has to know of a kernel. Costs are relative to one row's products with one key; the
// figures of each backend and how they were measured stand where it is made.
struct TileShape {
  kernels::cpu::TileLimits limits;
  int key_cost = 16;    // reading or packing a key
  int unit_cost = 100;  // starting a unit
};

// slot_floats is the size of a unit's partial state, scratch_floats that of a thread's working memory.
Status allocate_span_buffers(const AttentionDesc& desc, const PlanLimits& limits, const TileShape& shape,
                             int64_t slot_floats, int64_t scratch_floats, PlanBuffers* buffers);

// Writes items, parts, splits, sequences and what is shared. Never allocates.
void plan_spans(const AttentionDesc& desc, const AttentionBatch& batch, const TileShape& shape,
                PlanBuffers& buffers, Plan* plan);

// The keys that query token `token` of the sequence sees: [begin, end).
struct VisibleKeys {
  int begin = 0;
  int end = 0;
};
inline VisibleKeys visible_keys(const AttentionDesc& desc, const AttentionBatch& batch, size_t seq,
                                int token) {
  const int kv_len = batch.kv_len[seq];
  if (!batch.causal) return {0, kv_len};
  const int end = kv_len - batch.q_len[seq] + token + 1;
  return {desc.window > 0 && end > desc.window ? end - desc.window : 0, end > 0 ? end : 0};
}

}  // namespace bifocal::attention
