// How a step's attention is cut into work. The unit is a tile of query rows that share a sequence and a KV
// head; its keys fall into spans that end at absolute multiples of kSpanKeys. Every span is computed from
// scratch and spans are folded in index order, whoever computes them: where the cuts fall changes the speed,
// never a bit of the result.
#pragma once

#include <cstdint>

#include "attention/backend.h"

namespace bifocal::attention {

constexpr int kSpanKeys = 512;

// One unit, or some spans of one, by one thread.
struct WorkItem {
  int32_t seq = 0;
  int32_t kv_head = 0;
  int32_t row_begin = 0;  // of the sequence's q_len * G rows
  int32_t num_rows = 0;
  int32_t span_begin = 0;  // this item's spans
  int32_t span_end = 0;
  int32_t split = -1;  // index of the unit's SplitUnit when others compute its other spans
  int32_t reserved = 0;
};

// A unit whose spans are shared out. Its partial states lie in slots first_slot, ..., one per span.
struct SplitUnit {
  int32_t first_slot = 0;
  int32_t first_span = 0;
  int32_t num_spans = 0;
  int32_t num_items = 0;
  int32_t done = 0;  // items finished; the last one folds and resets it
};

// Relative costs, measured: reading or packing a key costs as much as kKeyCost rows' products with it.
struct CostModel {
  int key_cost = 8;
  int unit_cost = 128;
};

// Sizes of the buffers; tile_rows is the kernel's, slot_floats a partial state's.
Status allocate_span_buffers(const AttentionDesc& desc, const PlanLimits& limits, int tile_rows,
                             int64_t slot_floats, int64_t scratch_floats, PlanBuffers* buffers);

// Writes items, parts and splits. Never allocates.
void plan_spans(const AttentionDesc& desc, const AttentionBatch& batch, int tile_rows, const CostModel& cost,
                PlanBuffers& buffers, Plan* plan);

// The keys that query token `token` of the sequence sees: [begin, end).
struct VisibleKeys {
  int begin = 0;
  int end = 0;
};
inline VisibleKeys visible_keys(const AttentionDesc& desc, int q_len, int kv_len, int token) {
  const int end = kv_len - q_len + token + 1;
  return {desc.window > 0 && end > desc.window ? end - desc.window : 0, end > 0 ? end : 0};
}

}  // namespace bifocal::attention
