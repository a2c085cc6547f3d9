#include "attention/span_plan.h"

#include <algorithm>

#include "attention/shared_prefix.h"
#include "base/check.h"
#include "base/int_math.h"

namespace bifocal::attention {
namespace {

// Enough parts that a thread which is held up leaves little behind for the others to wait for.
constexpr int kPartsPerThread = 4;
// Memory for partial states beyond what one long sequence needs; when it runs out, fewer units are split.
constexpr int64_t kPartialBudgetBytes = int64_t{32} << 20;

int64_t max_parts(const PlanLimits& limits) {
  return limits.num_threads <= 1 ? 1 : int64_t{limits.num_threads} * kPartsPerThread;
}

// Rows of a sequence, or of several, with the spans of keys that they see; for a single KV head.
struct Tile {
  WorkItem item;
  int64_t cost = 0;
  int num_spans() const { return item.span_end - item.span_begin; }
};

// The tiles that follow from the lengths of the step's sequences and from what they share.
class Tiles {
 public:
  Tiles(const AttentionDesc& desc, const AttentionBatch& batch, const TileShape& shape, PlanBuffers& buffers)
      : desc_(desc),
        batch_(batch),
        shape_(shape),
        group_(desc.num_heads / desc.num_kv_heads),
        sequences_(buffers.sequences.view().as<const SequencePlan>()),
        members_(buffers.members.empty() ? nullptr : buffers.members.view().as<const int32_t>()) {}

  // fn(tile) for each tile of the sequence, the fullest first.
  template <class Fn>
  void for_own(size_t seq, Fn fn) const {
    const int q_len = batch_.q_len[seq];
    const int shared_keys = sequences_[seq].shared_spans * kSpanKeys;
    const int max_rows = shape_.limits.max_rows_per_head;
    for (int row = 0; row < q_len * group_; row += max_rows) {
      Tile tile;
      tile.item.seq = static_cast<int32_t>(seq);
      tile.item.row_begin = row;
      tile.item.num_rows = std::min(max_rows, q_len * group_ - row);
      const int last_row = row + tile.item.num_rows - 1;
      const int begin = std::max(visible_keys(desc_, batch_, seq, row / group_).begin, shared_keys);
      const int end = visible_keys(desc_, batch_, seq, last_row / group_).end;
      tile.item.span_begin = begin / kSpanKeys;
      tile.item.span_end = static_cast<int32_t>(ceil_div(end, kSpanKeys));
      tile.cost = cost(end - begin, tile.item.num_rows);
      fn(tile);
    }
  }

  // fn(tile) for as many members as fit one, and so on.
  template <class Fn>
  void for_shared(const SharedGroup& group, Fn fn) const {
    Tile tile;
    tile.item.seq = group.first_member;
    tile.item.span_end = group.num_spans;
    const auto finish = [&] {
      tile.cost = cost(int64_t{group.num_spans} * kSpanKeys, tile.item.num_rows);
      fn(tile);
    };
    for (int i = group.first_member; i < group.first_member + group.num_members; ++i) {
      const int rows = batch_.q_len[static_cast<size_t>(members_[i])] * group_;
      if (tile.item.num_rows + rows > shape_.limits.max_rows_per_head) {
        finish();
        tile.item.seq = i;
        tile.item.num_members = tile.item.num_rows = 0;
      }
      ++tile.item.num_members;
      tile.item.num_rows += rows;
    }
    finish();
  }

 private:
  int64_t cost(int64_t num_keys, int64_t num_rows) const {
    return num_keys * (shape_.key_cost + num_rows) + shape_.unit_cost;
  }

  const AttentionDesc& desc_;
  const AttentionBatch& batch_;
  const TileShape& shape_;
  int group_;
  const SequencePlan* sequences_;
  const int32_t* members_;
};

// Appends records to the open part and closes it whenever the cost so far passes its share.
class Partition {
 public:
  Partition(PlanBuffers& buffers, Plan* plan, int64_t total_cost)
      : plan_(plan),
        items_(buffers.items.view().as<WorkItem>()),
        parts_(buffers.parts.view().as<int32_t>()),
        splits_(buffers.splits.view().as<SplitUnit>()),
        max_items_(buffers.items.view().shape[0]),
        free_slots_(static_cast<int32_t>(buffers.partials.view().shape[0])),
        first_part_(plan->num_parts),
        max_parts_(max_parts(buffers.limits)),
        share_(std::max<int64_t>(1, ceil_div(total_cost, max_parts_))) {
    parts_[first_part_] = static_cast<int32_t>(plan->num_items);
  }

  void add(const Tile& tile, int kv_head, int num_kv_heads) {
    WorkItem item = tile.item;
    item.kv_head = kv_head;
    item.num_kv_heads = num_kv_heads;
    const int64_t cost = tile.cost * num_kv_heads;
    const int num_spans = tile.num_spans();
    if (num_spans > free_slots_ || spans_that_fit(cost, num_spans) >= num_spans) return append(item, cost);

    item.split = static_cast<int32_t>(plan_->num_splits++);
    SplitUnit& split = splits_[item.split];
    split = {next_slot_, item.span_begin, num_spans, 0, 0};
    next_slot_ += num_spans;
    free_slots_ -= num_spans;
    const int64_t span_cost = cost / num_spans;
    for (int left = num_spans; left > 0; ++split.num_items) {
      const int spans = spans_that_fit(left * span_cost, left);
      item.span_end = item.span_begin + spans;
      append(item, spans * span_cost);
      item.span_begin = item.span_end;
      left -= spans;
    }
  }

  void close() {
    if (parts_[plan_->num_parts] == plan_->num_items) return;
    parts_[++plan_->num_parts] = static_cast<int32_t>(plan_->num_items);
  }

 private:
  int64_t closed_parts() const { return plan_->num_parts - first_part_; }
  bool is_last_part() const { return closed_parts() + 1 == max_parts_; }

  // How many of the spans, which cost `cost` together, the open part has room for: at least one, and all of
  // them when the part would not become an eighth larger than its share.
  int spans_that_fit(int64_t cost, int num_spans) const {
    const int64_t room = share_ * (closed_parts() + 1) - cost_;
    if (num_spans <= 1 || is_last_part() || cost <= room + share_ / 8) return num_spans;
    const int64_t span_cost = std::max<int64_t>(1, cost / num_spans);
    return static_cast<int>(std::clamp<int64_t>((room + span_cost / 2) / span_cost, 1, num_spans));
  }

  void append(const WorkItem& item, int64_t cost) {
    BIFOCAL_CHECK_LT(plan_->num_items, max_items_);
    items_[plan_->num_items++] = item;
    cost_ += cost;
    if (cost_ >= share_ * (closed_parts() + 1) && !is_last_part()) close();
  }

  Plan* plan_;
  WorkItem* items_;
  int32_t* parts_;  // part p is items [parts_[p], parts_[p + 1])
  SplitUnit* splits_;
  int64_t max_items_;
  int32_t free_slots_;
  int32_t next_slot_ = 0;
  int64_t first_part_;
  int64_t max_parts_;
  int64_t share_;
  int64_t cost_ = 0;
};

// Cuts the tiles of all sources (sequences, or groups of them) into parts of equal cost.
// for_tiles(source, fn) calls fn(tile), the fullest first.
template <class ForTiles>
void share_out(const AttentionDesc& desc, const kernels::cpu::TileLimits& limits, size_t num_sources,
               PlanBuffers& buffers, Plan* plan, ForTiles for_tiles) {
  int64_t total_cost = 0;
  int64_t total_spans = 0;
  for (size_t source = 0; source < num_sources; ++source) {
    for_tiles(source, [&](const Tile& tile) {
      total_cost += tile.cost * desc.num_kv_heads;
      total_spans += int64_t{tile.num_spans()} * desc.num_kv_heads;
    });
  }
  // KV heads of a page lie side by side: computing several together reads memory in order. But not so many
  // that there are fewer units than parts.
  const auto most_heads = static_cast<int>(std::clamp<int64_t>(
      total_spans / max_parts(buffers.limits), 1, std::min(desc.num_kv_heads, limits.max_heads)));
  Partition partition(buffers, plan, total_cost);
  for (size_t source = 0; source < num_sources; ++source) {
    int rows = 0;
    for_tiles(source, [&](const Tile& tile) { rows = std::max(rows, tile.item.num_rows); });
    if (rows == 0) continue;
    const int heads =
        rows > limits.max_rows_of_several ? 1 : std::clamp(limits.max_rows / rows, 1, most_heads);
    for (int head = 0; head < desc.num_kv_heads; head += heads) {
      // The tiles of a KV head follow one another: they find its keys in the core's own cache.
      for_tiles(source, [&](const Tile& tile) {
        partition.add(tile, head, std::min(heads, desc.num_kv_heads - head));
      });
    }
  }
  partition.close();
}

}  // namespace

Status allocate_span_buffers(const AttentionDesc& desc, const PlanLimits& limits, const TileShape& shape,
                             int64_t slot_floats, int64_t scratch_floats, PlanBuffers* buffers) {
  const int64_t group = desc.num_heads / desc.num_kv_heads;
  const int64_t max_spans = ceil_div(limits.max_kv_len, kSpanKeys);
  const int64_t parts = max_parts(limits);
  int64_t slots = 0;
  if (parts > 1) {
    const int64_t affordable = kPartialBudgetBytes / (slot_floats * static_cast<int64_t>(sizeof(float)));
    slots = std::max(max_spans, std::min(parts * max_spans, affordable));
  }
  // A sequence of n rows has at most n / max_rows + 1 tiles of its own and belongs to at most one that is
  // shared; each is at most one unit per KV head. A piece of a split unit uses at least one slot; shared and
  // own units use the slots in turn.
  const int64_t tiles = ceil_div(int64_t{limits.max_tokens} * group, shape.limits.max_rows_per_head) +
                        2 * int64_t{limits.max_seqs};
  const auto words = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(int32_t)); };
  buffers->limits = limits;
  BIFOCAL_ASSIGN_OR_RETURN(
      buffers->items,
      Tensor::allocate(DType::i32, {tiles * desc.num_kv_heads + 2 * slots, words(sizeof(WorkItem))}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->parts, Tensor::allocate(DType::i32, {2 * parts + 1}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->splits, Tensor::allocate(DType::i32, {slots, words(sizeof(SplitUnit))}));
  BIFOCAL_ASSIGN_OR_RETURN(
      buffers->sequences,
      Tensor::allocate(DType::i64, {limits.max_seqs, static_cast<int64_t>(sizeof(SequencePlan) / 8)}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->partials, Tensor::allocate(DType::f32, {slots, slot_floats}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->scratch,
                           Tensor::allocate(DType::f32, {std::max(1, limits.num_threads), scratch_floats}));
  return allocate_shared_prefix_buffers(desc, limits, buffers);
}

void plan_spans(const AttentionDesc& desc, const AttentionBatch& batch, const TileShape& shape,
                PlanBuffers& buffers, Plan* plan) {
  BIFOCAL_CHECK_LE(batch.num_seqs(), buffers.limits.max_seqs);
  for (const int32_t kv_len : batch.kv_len) BIFOCAL_CHECK_LE(kv_len, buffers.limits.max_kv_len);
  const auto num_groups =
      static_cast<size_t>(find_shared_prefixes(desc, batch, shape.limits.max_rows_per_head, buffers));
  const Tiles tiles(desc, batch, shape, buffers);
  if (num_groups > 0) {
    const auto* groups = buffers.groups.view().as<const SharedGroup>();
    share_out(desc, shape.limits, num_groups, buffers, plan,
              [&](size_t group, auto fn) { tiles.for_shared(groups[group], fn); });
    plan->num_shared_parts = plan->num_parts;
  }
  share_out(desc, shape.limits, batch.q_len.size(), buffers, plan,
            [&](size_t seq, auto fn) { tiles.for_own(seq, fn); });
}

}  // namespace bifocal::attention
