#include "attention/span_plan.h"

#include <algorithm>

#include "base/check.h"

namespace bifocal::attention {
namespace {

// Enough parts that a thread which is held up leaves little behind for the others to wait for.
constexpr int kPartsPerThread = 4;
// Memory for partial states beyond what one long sequence needs; when it runs out, fewer units are split.
constexpr int64_t kPartialBudgetBytes = int64_t{32} << 20;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t max_parts(const PlanLimits& limits) {
  return limits.num_threads <= 1 ? 1 : int64_t{limits.num_threads} * kPartsPerThread;
}

// One unit of work before it is cut.
struct Unit {
  int32_t row_begin;
  int32_t num_rows;
  int32_t span_begin;
  int32_t span_end;
  int64_t cost;
};

// Tile `tile` of the sequence.
Unit describe_unit(const AttentionDesc& desc, int q_len, int kv_len, int tile, int tile_rows,
                   const CostModel& cost) {
  const int group = desc.num_heads / desc.num_kv_heads;
  Unit unit{};
  unit.row_begin = tile * tile_rows;
  unit.num_rows = std::min(tile_rows, q_len * group - unit.row_begin);
  const int begin = visible_keys(desc, q_len, kv_len, unit.row_begin / group).begin;
  const int end = visible_keys(desc, q_len, kv_len, (unit.row_begin + unit.num_rows - 1) / group).end;
  unit.span_begin = begin / kSpanKeys;
  unit.span_end = static_cast<int32_t>(ceil_div(end, kSpanKeys));
  unit.cost = int64_t{std::max(0, end - begin)} * (cost.key_cost + unit.num_rows) + cost.unit_cost;
  return unit;
}

// Appends records and closes a part whenever the cost so far passes its share.
class Partition {
 public:
  Partition(PlanBuffers& buffers, Plan* plan, int64_t total_cost)
      : plan_(plan),
        items_(buffers.items.view().as<WorkItem>()),
        parts_(buffers.parts.view().as<int32_t>()),
        splits_(buffers.splits.view().as<SplitUnit>()),
        max_items_(buffers.items.view().shape[0]),
        free_slots_(buffers.partials.view().rank > 0 ? buffers.partials.view().shape[0] : 0),
        max_parts_(max_parts(buffers.limits)),
        share_(std::max<int64_t>(1, ceil_div(total_cost, max_parts_))) {
    parts_[0] = 0;
  }

  void add(int seq, int kv_head, const Unit& unit) {
    const int num_spans = unit.span_end - unit.span_begin;
    // A unit of more than one and a half shares is worth the cost of folding its pieces.
    const bool split =
        max_parts_ > 1 && num_spans > 1 && unit.cost * 2 > share_ * 3 && num_spans <= free_slots_;
    if (!split) {
      append({seq, kv_head, unit.row_begin, unit.num_rows, unit.span_begin, unit.span_end, -1, 0}, unit.cost);
      return;
    }
    const auto pieces = static_cast<int32_t>(std::min<int64_t>(num_spans, ceil_div(unit.cost, share_)));
    const auto index = static_cast<int32_t>(plan_->num_splits++);
    splits_[index] = {next_slot_, unit.span_begin, num_spans, pieces, 0};
    next_slot_ += num_spans;
    free_slots_ -= num_spans;
    for (int32_t i = 0; i < pieces; ++i) {
      const auto at = [&](int32_t n) {
        return unit.span_begin + static_cast<int32_t>(int64_t{num_spans} * n / pieces);
      };
      append({seq, kv_head, unit.row_begin, unit.num_rows, at(i), at(i + 1), index, 0}, unit.cost / pieces);
    }
  }

  void close() {
    if (parts_[plan_->num_parts] != plan_->num_items)
      parts_[++plan_->num_parts] = static_cast<int32_t>(plan_->num_items);
  }

 private:
  void append(const WorkItem& item, int64_t cost) {
    BIFOCAL_CHECK_LT(plan_->num_items, max_items_);
    items_[plan_->num_items++] = item;
    cost_ += cost;
    if (cost_ >= share_ * (plan_->num_parts + 1) && plan_->num_parts + 1 < max_parts_) close();
  }

  Plan* plan_;
  WorkItem* items_;
  int32_t* parts_;  // part p is items [parts_[p], parts_[p + 1])
  SplitUnit* splits_;
  int64_t max_items_;
  int64_t free_slots_;
  int64_t max_parts_;
  int64_t share_;
  int64_t cost_ = 0;
  int32_t next_slot_ = 0;
};

}  // namespace

Status allocate_span_buffers(const AttentionDesc& desc, const PlanLimits& limits, int tile_rows,
                             int64_t slot_floats, int64_t scratch_floats, PlanBuffers* buffers) {
  const int64_t group = desc.num_heads / desc.num_kv_heads;
  const int64_t max_spans = ceil_div(limits.max_kv_len, kSpanKeys);
  const int64_t parts = max_parts(limits);
  int64_t slots = 0;
  if (parts > 1) {
    const int64_t wanted = std::min(parts * max_spans, kPartialBudgetBytes / (slot_floats * 4));
    slots = std::max(max_spans, wanted);
  }
  // A sequence of n rows has at most n / tile_rows + 1 tiles; a piece of a split unit uses at least one slot.
  const int64_t units =
      desc.num_kv_heads * (ceil_div(limits.max_tokens * group, tile_rows) + limits.max_seqs);
  buffers->limits = limits;
  const auto words = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(int32_t)); };
  BIFOCAL_ASSIGN_OR_RETURN(buffers->items,
                           Tensor::allocate(DType::i32, {units + slots, words(sizeof(WorkItem))}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->parts, Tensor::allocate(DType::i32, {parts + 1}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->splits, Tensor::allocate(DType::i32, {slots, words(sizeof(SplitUnit))}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->partials, Tensor::allocate(DType::f32, {slots, slot_floats}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->scratch,
                           Tensor::allocate(DType::f32, {std::max(1, limits.num_threads), scratch_floats}));
  return {};
}

void plan_spans(const AttentionDesc& desc, const AttentionBatch& batch, int tile_rows, const CostModel& cost,
                PlanBuffers& buffers, Plan* plan) {
  const int group = desc.num_heads / desc.num_kv_heads;
  const auto num_tiles = [&](size_t seq) {
    return static_cast<int>(ceil_div(batch.q_len[seq] * group, tile_rows));
  };
  int64_t total_cost = 0;
  const int max_kv_len = buffers.limits.max_kv_len;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    BIFOCAL_CHECK_LE(batch.kv_len[seq], max_kv_len);
    for (int tile = 0; tile < num_tiles(seq); ++tile) {
      total_cost += describe_unit(desc, batch.q_len[seq], batch.kv_len[seq], tile, tile_rows, cost).cost;
    }
  }
  Partition partition(buffers, plan, total_cost * desc.num_kv_heads);
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    const int tiles = num_tiles(seq);
    for (int tile = 0; tile < tiles; ++tile) {
      const Unit unit = describe_unit(desc, batch.q_len[seq], batch.kv_len[seq], tile, tile_rows, cost);
      for (int head = 0; head < desc.num_kv_heads; ++head) partition.add(static_cast<int>(seq), head, unit);
    }
  }
  partition.close();
}

}  // namespace bifocal::attention
