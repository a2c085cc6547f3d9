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

// A tile of a sequence, for a single KV head.
struct Tile {
  int32_t row_begin;
  int32_t num_rows;
  int32_t span_begin;
  int32_t span_end;
  int64_t cost;
};

// The lengths of the step's sequences, and the tiles that follow from them.
class Tiles {
 public:
  Tiles(const AttentionDesc& desc, const AttentionBatch& batch, const TileShape& shape)
      : desc_(desc), batch_(batch), shape_(shape), group_(desc.num_heads / desc.num_kv_heads) {}

  int count(size_t seq) const {
    return static_cast<int>(ceil_div(int64_t{batch_.q_len[seq]} * group_, shape_.max_rows_per_head));
  }
  // Rows of the sequence's largest tile.
  int rows(size_t seq) const { return std::min(batch_.q_len[seq] * group_, shape_.max_rows_per_head); }

  Tile describe(size_t seq, int index) const {
    const int q_len = batch_.q_len[seq];
    const int kv_len = batch_.kv_len[seq];
    Tile tile{};
    tile.row_begin = index * shape_.max_rows_per_head;
    tile.num_rows = std::min(shape_.max_rows_per_head, q_len * group_ - tile.row_begin);
    const int begin = visible_keys(desc_, q_len, kv_len, tile.row_begin / group_).begin;
    const int end = visible_keys(desc_, q_len, kv_len, (tile.row_begin + tile.num_rows - 1) / group_).end;
    tile.span_begin = begin / kSpanKeys;
    tile.span_end = static_cast<int32_t>(ceil_div(end, kSpanKeys));
    tile.cost = int64_t{end - begin} * (shape_.key_cost + tile.num_rows) + shape_.unit_cost;
    return tile;
  }

 private:
  const AttentionDesc& desc_;
  const AttentionBatch& batch_;
  const TileShape& shape_;
  int group_;
};

// Appends records and closes a part whenever the cost so far passes its share.
class Partition {
 public:
  Partition(PlanBuffers& buffers, Plan* plan, int64_t total_cost)
      : plan_(plan),
        items_(buffers.items.view().as<WorkItem>()),
        parts_(buffers.parts.view().as<int32_t>()),
        splits_(buffers.splits.view().as<SplitUnit>()),
        max_items_(buffers.items.view().shape[0]),
        free_slots_(static_cast<int32_t>(buffers.partials.view().shape[0])),
        max_parts_(max_parts(buffers.limits)),
        share_(std::max<int64_t>(1, ceil_div(total_cost, max_parts_))) {
    parts_[0] = 0;
  }

  void add(int seq, int kv_head, int num_kv_heads, const Tile& tile) {
    const int64_t cost = tile.cost * num_kv_heads;
    const int num_spans = tile.span_end - tile.span_begin;
    WorkItem item{seq,           kv_head,         num_kv_heads,  tile.row_begin,
                  tile.num_rows, tile.span_begin, tile.span_end, -1};
    if (num_spans > free_slots_ || spans_that_fit(cost, num_spans) >= num_spans) return append(item, cost);

    item.split = static_cast<int32_t>(plan_->num_splits++);
    SplitUnit& split = splits_[item.split];
    split = {next_slot_, tile.span_begin, num_spans, 0, 0};
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
  // How many of the spans, which cost `cost` together, the open part has room for: at least one, and all of
  // them when the part would not become an eighth larger than its share.
  int spans_that_fit(int64_t cost, int num_spans) const {
    const int64_t room = share_ * (plan_->num_parts + 1) - cost_;
    if (num_spans <= 1 || plan_->num_parts + 1 == max_parts_ || cost <= room + share_ / 8) return num_spans;
    const int64_t span_cost = std::max<int64_t>(1, cost / num_spans);
    return static_cast<int>(std::clamp<int64_t>((room + span_cost / 2) / span_cost, 1, num_spans));
  }

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
  int32_t free_slots_;
  int32_t next_slot_ = 0;
  int64_t max_parts_;
  int64_t share_;
  int64_t cost_ = 0;
};

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
  // A sequence of n rows has at most n / max_rows_per_head + 1 tiles, each at most one unit per KV head; a
  // piece of a split unit uses at least one slot.
  const int64_t tiles =
      ceil_div(int64_t{limits.max_tokens} * group, shape.max_rows_per_head) + limits.max_seqs;
  const auto words = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(int32_t)); };
  buffers->limits = limits;
  BIFOCAL_ASSIGN_OR_RETURN(buffers->items, Tensor::allocate(DType::i32, {tiles * desc.num_kv_heads + slots,
                                                                         words(sizeof(WorkItem))}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->parts, Tensor::allocate(DType::i32, {parts + 1}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->splits, Tensor::allocate(DType::i32, {slots, words(sizeof(SplitUnit))}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->partials, Tensor::allocate(DType::f32, {slots, slot_floats}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->scratch,
                           Tensor::allocate(DType::f32, {std::max(1, limits.num_threads), scratch_floats}));
  return {};
}

void plan_spans(const AttentionDesc& desc, const AttentionBatch& batch, const TileShape& shape,
                PlanBuffers& buffers, Plan* plan) {
  BIFOCAL_CHECK_LE(batch.num_seqs(), buffers.limits.max_seqs);
  const Tiles tiles(desc, batch, shape);
  int64_t total_cost = 0;
  int64_t total_spans = 0;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    BIFOCAL_CHECK_LE(batch.kv_len[seq], buffers.limits.max_kv_len);
    for (int i = 0; i < tiles.count(seq); ++i) {
      const Tile tile = tiles.describe(seq, i);
      total_cost += tile.cost * desc.num_kv_heads;
      total_spans += int64_t{tile.span_end - tile.span_begin} * desc.num_kv_heads;
    }
  }
  // KV heads of a page lie side by side: computing several together reads memory in order. But not so many
  // that there are fewer units than parts.
  const auto most_heads = static_cast<int>(std::clamp<int64_t>(
      total_spans / max_parts(buffers.limits), 1, std::min(desc.num_kv_heads, shape.max_kv_heads())));
  Partition partition(buffers, plan, total_cost);
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    const int num_tiles = tiles.count(seq);
    if (num_tiles == 0) continue;
    const int heads = std::clamp(shape.max_rows / tiles.rows(seq), 1, most_heads);
    for (int head = 0; head < desc.num_kv_heads; head += heads) {
      // The tiles of a KV head follow one another: they find its keys in the core's own cache.
      for (int i = 0; i < num_tiles; ++i) {
        partition.add(static_cast<int>(seq), head, std::min(heads, desc.num_kv_heads - head),
                      tiles.describe(seq, i));
      }
    }
  }
  partition.close();
}

}  // namespace bifocal::attention
