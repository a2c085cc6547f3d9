// Walks through the blocks of a span in the order of addresses and says which rows come a little later, so
// that kernels can ask for them while they compute. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/key_block.h"
#include "kernels/cpu/attention/lanes.h"

namespace bifocal::kernels::cpu {
namespace {

// Heads that are read side by side, row by row in turns. The processor's prefetcher follows each of them, and
// has to find its way anew after 4 KiB: it then goes on with the other one meanwhile.
constexpr int kStreams = simd::kWidth == 16 ? 2 : 1;

// How far ahead the rows of each head are asked for: more where several query rows make reading uneven. Less,
// and they come late; more, and what the processor's own prefetcher has on its way is asked for twice.
constexpr int64_t read_lead_bytes(int num_rows) {
  return num_rows == 1 ? 1024 : 2048;
}

// Of one of the heads that are read side by side: [i] is the row that is read read_lead_bytes() after that
// of the block's key i.
using RowsAhead = const char* [kKeyBlock];

inline void prefetch_row(const char* row, int64_t num_bytes) {
  for (int64_t offset = 0; offset < num_bytes; offset += 64) simd::prefetch(row + offset);
}

// A block is read in turns of up to turn_keys keys: kStreams heads after kStreams heads of the first turn's
// keys, of the next turn's keys, then the values in the same way.
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

  // fn(KeyRange turn, int head, int num_heads, const RowsAhead* ahead)
  template <class Fn>
  void for_keys(Fn fn) {
    const KeyBlock<Storage>& now = keys();
    for_turns({now.k, args_.kv.k_head_stride, {}}, args_.head_dim_k,
              {now.v, args_.kv.v_head_stride, first_turn(now)}, fn);
  }
  template <class Fn>
  void for_values(Fn fn) {
    const KeyBlock<Storage>& then = has_next_ ? keys_[1 - current_] : keys();
    for_turns({keys().v, args_.kv.v_head_stride, {}}, args_.head_dim_v,
              {then.k, args_.kv.k_head_stride, first_turn(then)}, fn);
  }

 private:
  struct Turn {
    const Storage* const* rows = nullptr;  // of the block's keys, first head
    int64_t head_stride = 0;               // bytes
    KeyRange keys;
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
  void for_turns(Turn now, int head_dim, const Turn& following, Fn fn) {
    const int64_t row_bytes = int64_t{head_dim} * static_cast<int64_t>(sizeof(Storage));
    const int lead = static_cast<int>((read_lead_bytes(args_.num_rows) + row_bytes - 1) / row_bytes);
    now.keys = first_turn(keys());
    for (;;) {
      const bool last = now.keys.end == keys().end;
      Turn next = following;
      if (!last) next = {now.rows, now.head_stride, turn_from(now.keys.end, keys())};
      for (int h = 0; h < args_.num_heads; h += kStreams) {
        const int left = args_.num_heads - h;
        const int num_heads = left < kStreams ? left : kStreams;
        for (int n = 0; n < num_heads; ++n) {
          if (n + kStreams < left) {
            look_ahead(now, h + n, now, h + n + kStreams, lead, ahead_[n]);
          } else {
            look_ahead(now, h + n, next, n, lead, ahead_[n]);
          }
        }
        fn(now.keys, h, num_heads, ahead_);
      }
      if (last) return;
      now = next;
    }
  }

  // Also for the keys beside the turn that fill whole registers.
  void look_ahead(const Turn& now, int head, const Turn& next, int next_head, int lead, const char** ahead) {
    const int begin = now.keys.begin / turn_keys_ * turn_keys_;
    const int inside = now.keys.end - lead;
    int i = begin;
    for (; i < inside; ++i) ahead[i] = address(now, i + lead, head);
    int then = next.keys.begin + (i - inside);
    for (; i < begin + turn_keys_; ++i, ++then) {
      ahead[i] = address(next, then < next.keys.end ? then : next.keys.end - 1, next_head);
    }
  }
  static const char* address(const Turn& turn, int key, int head) {
    return reinterpret_cast<const char*>(turn.rows[key]) + head * turn.head_stride;
  }

  const SpanArgs& args_;
  KeyRange range_;
  int turn_keys_;
  int block_ = 0;
  int next_block_ = 0;
  bool has_next_ = false;
  int current_ = 0;
  KeyBlock<Storage> keys_[2];
  RowsAhead ahead_[kStreams];
};

}  // namespace
}  // namespace bifocal::kernels::cpu
