// Walks through the blocks of a span in the order of addresses and says which rows come a little later, so
// that kernels can ask for them while they compute. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/key_block.h"

namespace bifocal::kernels::cpu {
namespace {

// How far ahead rows are asked for. Less, and they come late; more, and what the hardware's own prefetcher
// has on its way is asked for twice.
constexpr int64_t kReadLeadBytes = 2048;

inline void prefetch_row(const char* row, int64_t num_bytes) {
  for (int64_t offset = 0; offset < num_bytes; offset += 64) simd::prefetch(row + offset);
}

// A block is read in turns of up to turn_keys keys: head after head of the first turn's keys, of the next
// turn's keys, then the values in the same way.
template <class Storage>
class BlockReader {
 public:
  // `range` is not empty.
  BlockReader(const SpanArgs& args, KeyRange range, int turn_keys)
      : args_(args), range_(range), turn_keys_(turn_keys) {
    locate(range.begin / kKeyBlock * kKeyBlock, range.end, &keys_[1]);
    next_block_ = range.begin / kKeyBlock * kKeyBlock;
  }

  // Goes on to the next block, first to the first; false when there are no more.
  bool next() {
    if (next_block_ >= range_.end) return false;
    block_ = next_block_;
    next_block_ += kKeyBlock;
    current_ = 1 - current_;
    // The caller's next span starts where this one ends.
    has_next_ = next_block_ < args_.fetch_end;
    if (has_next_) locate(next_block_, args_.fetch_end, &keys_[1 - current_]);
    return true;
  }

  int block() const { return block_; }
  const KeyBlock<Storage>& keys() const { return keys_[current_]; }

  // fn(KeyRange turn, int head, const char* const* ahead); ahead[i] is the row that is read kReadLeadBytes
  // after that of the block's key i.
  template <class Fn>
  void for_keys(Fn fn) {
    const KeyBlock<Storage>& now = keys();
    for_turns(now.k, args_.kv.k_head_stride, args_.head_dim_k, {now.v, first_turn(now), 0}, fn);
  }
  template <class Fn>
  void for_values(Fn fn) {
    const KeyBlock<Storage>& then = has_next_ ? keys_[1 - current_] : keys();
    for_turns(keys().v, args_.kv.v_head_stride, args_.head_dim_v, {then.k, first_turn(then), 0}, fn);
  }

 private:
  struct Turn {
    const Storage* const* rows = nullptr;  // of the block's keys, first head
    KeyRange keys;
    int64_t head = 0;  // bytes from the first head's rows
  };

  void locate(int block, int end, KeyBlock<Storage>* keys) {
    locate_block(args_.kv, block, {range_.begin, end}, keys);
  }
  KeyRange turn_from(int begin, const KeyBlock<Storage>& keys) const {
    const int end = (begin / turn_keys_ + 1) * turn_keys_;
    return {begin, end < keys.end ? end : keys.end};
  }
  KeyRange first_turn(const KeyBlock<Storage>& keys) const { return turn_from(keys.begin, keys); }

  template <class Fn>
  void for_turns(const Storage* const* rows, int64_t head_stride, int head_dim, const Turn& following,
                 Fn fn) {
    const int64_t row_bytes = int64_t{head_dim} * static_cast<int64_t>(sizeof(Storage));
    const int lead = static_cast<int>((kReadLeadBytes + row_bytes - 1) / row_bytes);
    for (KeyRange turn = first_turn(keys());;) {
      const bool last = turn.end == keys().end;
      const KeyRange next_keys = last ? KeyRange{} : turn_from(turn.end, keys());
      for (int h = 0; h < args_.num_heads; ++h) {
        const Turn now{rows, turn, h * head_stride};
        const Turn next = h + 1 < args_.num_heads ? Turn{rows, turn, (h + 1) * head_stride}
                          : last                  ? following
                                                  : Turn{rows, next_keys, 0};
        look_ahead(now, next, lead);
        fn(turn, h, ahead_);
      }
      if (last) return;
      turn = next_keys;
    }
  }

  // Also for the keys beside the turn that fill whole registers.
  void look_ahead(const Turn& now, const Turn& next, int lead) {
    const int begin = now.keys.begin / turn_keys_ * turn_keys_;
    const int inside = now.keys.end - lead;
    int i = begin;
    for (; i < inside; ++i) ahead_[i] = address(now.rows[i + lead], now.head);
    int then = next.keys.begin + (i - inside);
    for (; i < begin + turn_keys_; ++i, ++then) {
      ahead_[i] = address(next.rows[then < next.keys.end ? then : next.keys.end - 1], next.head);
    }
  }
  static const char* address(const Storage* row, int64_t head) {
    return reinterpret_cast<const char*>(row) + head;
  }

  const SpanArgs& args_;
  KeyRange range_;
  int turn_keys_;
  int block_ = 0;
  int next_block_ = 0;
  bool has_next_ = false;
  int current_ = 0;
  KeyBlock<Storage> keys_[2];
  const char* ahead_[kKeyBlock];
};

}  // namespace
}  // namespace bifocal::kernels::cpu
