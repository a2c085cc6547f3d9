#include "attention/shared_prefix.h"

#include <algorithm>
#include <cstring>

namespace bifocal::attention {
namespace {

// Memory for the states of sharing rows; sequences beyond it keep to themselves.
constexpr int64_t kStateBudgetBytes = int64_t{16} << 20;
// Spans that are not read again must pay for the barrier between shared and own units.
constexpr int kMinSavedSpans = 2;

// A sequence under a number to sort by; equal numbers stay in batch order.
int64_t ranked(int64_t rank, size_t seq) {
  return rank << 32 | static_cast<int64_t>(seq);
}
size_t seq_of(int64_t entry) {
  return static_cast<size_t>(entry & 0xffffffff);
}

class Search {
 public:
  Search(const AttentionDesc& desc, const AttentionBatch& batch, int max_rows, PlanBuffers& buffers)
      : batch_(batch),
        page_size_(desc.page_size),
        group_(desc.num_heads / desc.num_kv_heads),
        num_kv_heads_(desc.num_kv_heads),
        max_rows_(max_rows),
        free_states_(buffers.shared.view().shape[0]),
        order_(buffers.order.view().as<int64_t>()),
        members_(buffers.members.view().as<int32_t>()),
        groups_(buffers.groups.view().as<SharedGroup>()),
        sequences_(buffers.sequences.view().as<SequencePlan>()) {}

  int run() {
    // Candidates by the page of the first span's last key: those with the same one are compared further.
    int64_t num_candidates = 0;
    for (size_t seq = 0; seq < batch_.q_len.size(); ++seq) {
      if (whole_spans(seq) == 0 || rows(seq) > max_rows_) continue;
      order_[num_candidates++] = ranked(pages(seq)[(kSpanKeys - 1) / page_size_], seq);
    }
    std::sort(order_, order_ + num_candidates);
    for (int64_t begin = 0, end = 0; begin < num_candidates; begin = end) {
      while (end < num_candidates && order_[end] >> 32 == order_[begin] >> 32) ++end;
      if (end - begin > 1) make_group(order_ + begin, end - begin);
    }
    return num_groups_;
  }

 private:
  const int32_t* pages(size_t seq) const {
    return batch_.page_table.data() + static_cast<int64_t>(seq) * batch_.page_table_stride;
  }
  int64_t rows(size_t seq) const { return int64_t{batch_.q_len[seq]} * group_; }

  // Spans before the sequence's own keys of this step: all its rows see them.
  int whole_spans(size_t seq) const {
    if (batch_.q_len[seq] == 0) return 0;
    const int own_keys = batch_.causal ? batch_.q_len[seq] : 0;
    return (batch_.kv_len[seq] - own_keys) / kSpanKeys;
  }

  // How many spans the two begin with in common.
  int common_spans(size_t a, size_t b) const {
    const int most = std::min(whole_spans(a), whole_spans(b));
    int spans = 0;
    for (int page = 0; spans < most; ++spans) {
      const int end = ((spans + 1) * kSpanKeys - 1) / page_size_ + 1;
      const auto bytes = static_cast<size_t>(end - page) * sizeof(int32_t);
      if (std::memcmp(pages(a) + page, pages(b) + page, bytes) != 0) break;
      page = end;
    }
    return spans;
  }

  // The first of the candidates leads. Of those that share most with it, as many as save the most spans.
  void make_group(int64_t* candidates, int64_t count) {
    const size_t leader = seq_of(candidates[0]);
    for (int64_t i = 1; i < count; ++i) {
      const size_t seq = seq_of(candidates[i]);
      candidates[i] = ranked(-int64_t{common_spans(leader, seq)}, seq);
    }
    std::sort(candidates + 1, candidates + count);
    SharedGroup group{num_members_, 0, 0};
    int64_t most_saved = kMinSavedSpans - 1;
    for (int64_t i = 1; i < count; ++i) {
      const int64_t spans = -(candidates[i] >> 32);
      if (i * spans <= most_saved) continue;
      most_saved = i * spans;
      group.num_members = static_cast<int32_t>(i + 1);
      group.num_spans = static_cast<int32_t>(spans);
    }
    for (int32_t i = 0; i < group.num_members; ++i) {
      const size_t seq = seq_of(candidates[i]);
      const int64_t states = rows(seq) * num_kv_heads_;
      if (states > free_states_) {
        group.num_members = i;
        break;
      }
      free_states_ -= states;
      sequences_[seq].shared_spans = group.num_spans;
      sequences_[seq].shared_row = static_cast<int32_t>(next_state_);
      next_state_ += states;
      members_[num_members_++] = static_cast<int32_t>(seq);
    }
    if (group.num_members > 0) groups_[num_groups_++] = group;
  }

  const AttentionBatch& batch_;
  int page_size_;
  int group_;
  int num_kv_heads_;
  int max_rows_;
  int64_t free_states_;
  int64_t next_state_ = 0;
  int64_t* order_;
  int32_t* members_;
  SharedGroup* groups_;
  SequencePlan* sequences_;
  int num_groups_ = 0;
  int32_t num_members_ = 0;
};

}  // namespace

Status allocate_shared_prefix_buffers(const AttentionDesc& desc, const PlanLimits& limits,
                                      PlanBuffers* buffers) {
  if (desc.window != 0 || limits.max_kv_len <= kSpanKeys || limits.max_seqs < 2) return {};
  // As many floats as make_attention_state() lays out for a number of rows that is a multiple of 16.
  const int64_t row_floats = kernels::cpu::padded_head_dim(desc.head_dim_v) + 2;
  const int64_t affordable = kStateBudgetBytes / (row_floats * static_cast<int64_t>(sizeof(float)));
  const int64_t rows = std::min(int64_t{limits.max_tokens} * desc.num_heads, affordable);
  const auto words = [](size_t bytes) { return static_cast<int64_t>(bytes / sizeof(int32_t)); };
  BIFOCAL_ASSIGN_OR_RETURN(buffers->shared,
                           Tensor::allocate(DType::f32, {(rows + 15) / 16 * 16, row_floats}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->order, Tensor::allocate(DType::i64, {limits.max_seqs}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->members, Tensor::allocate(DType::i32, {limits.max_seqs}));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->groups,
                           Tensor::allocate(DType::i32, {limits.max_seqs / 2, words(sizeof(SharedGroup))}));
  return {};
}

int find_shared_prefixes(const AttentionDesc& desc, const AttentionBatch& batch, int max_rows,
                         PlanBuffers& buffers) {
  std::fill_n(buffers.sequences.view().as<SequencePlan>(), batch.q_len.size(), SequencePlan{});
  if (buffers.shared.empty() || batch.page_table.empty()) return 0;
  return Search(desc, batch, max_rows, buffers).run();
}

}  // namespace bifocal::attention
