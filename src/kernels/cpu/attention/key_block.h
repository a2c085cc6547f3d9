// Which keys a tile, and a row of it, sees in a block; and where they lie. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/span.h"

namespace bifocal::kernels::cpu {
namespace {

struct KeyRange {
  int begin = 0;
  int end = 0;
};

// The keys of this span that some row of the tile sees.
inline KeyRange tile_keys(const SpanArgs& args) {
  const int first = args.key_begin[0];
  const int last = args.key_end[args.num_rows - 1];
  const int begin = first > args.span_begin ? first : args.span_begin;
  const int end = last < args.span_end ? last : args.span_end;
  return begin < end ? KeyRange{begin, end} : KeyRange{};
}

// The keys of the block that row `row` sees, relative to the block.
inline KeyRange visible_in_block(const SpanArgs& args, int row, int block) {
  const int begin = args.key_begin[row] - block;
  const int end = args.key_end[row] - block;
  return {begin < 0 ? 0 : begin, end > kKeyBlock ? kKeyBlock : end};
}

// The keys of the block that some row of [row, row + num_rows) sees: both bounds rise with the row.
inline KeyRange visible_to_rows(const SpanArgs& args, int row, int num_rows, int block) {
  return {visible_in_block(args, row, block).begin, visible_in_block(args, row + num_rows - 1, block).end};
}

// Addresses of the keys and values of a block, for the first KV head; [begin, end) are those that the tile
// sees. Entries outside repeat the nearest of these, so that whole registers can be filled without touching
// memory that holds no key.
template <class Storage>
struct KeyBlock {
  int begin = 0;
  int end = 0;
  const Storage* k[kKeyBlock];
  const Storage* v[kKeyBlock];
};

// range.begin < block + kKeyBlock and range.end > block.
template <class Storage>
void locate_block(const KvView& kv, int block, KeyRange range, KeyBlock<Storage>* keys) {
  const int begin = range.begin > block ? range.begin - block : 0;
  const int end = range.end - block < kKeyBlock ? range.end - block : kKeyBlock;
  int page = (block + begin) / kv.page_size;
  int token = block + begin - page * kv.page_size;
  for (int i = begin; i < end; ++page, token = 0) {
    const char* k = kv.k + kv.pages[page] * kv.k_page_stride;
    const char* v = kv.v + kv.pages[page] * kv.v_page_stride;
    for (; token < kv.page_size && i < end; ++token, ++i) {
      keys->k[i] = reinterpret_cast<const Storage*>(k + token * kv.k_token_stride);
      keys->v[i] = reinterpret_cast<const Storage*>(v + token * kv.v_token_stride);
    }
  }
  for (int i = 0; i < begin; ++i) {
    keys->k[i] = keys->k[begin];
    keys->v[i] = keys->v[begin];
  }
  for (int i = end; i < kKeyBlock; ++i) {
    keys->k[i] = keys->k[end - 1];
    keys->v[i] = keys->v[end - 1];
  }
  keys->begin = begin;
  keys->end = end;
}

// Fetches the rows of some keys into the second-level cache, a row at a time between the arithmetic. It goes
// by address, page after page and head after head: memory gives its full rate only to sequential reads.
class FetchAhead {
 public:
  FetchAhead() = default;  // nothing
  static FetchAhead keys(const SpanArgs& args, int begin, int end) {
    const KvView& kv = args.kv;
    return {args, kv.k, kv.k_page_stride, kv.k_head_stride, kv.k_token_stride, args.head_dim_k, begin, end};
  }
  static FetchAhead values(const SpanArgs& args, int begin, int end) {
    const KvView& kv = args.kv;
    return {args, kv.v, kv.v_page_stride, kv.v_head_stride, kv.v_token_stride, args.head_dim_v, begin, end};
  }

  void fetch_row() {
    if (row_ == row_end_ && !next_run()) return;
    for (int64_t offset = 0; offset < row_bytes_; offset += 64) __builtin_prefetch(row_ + offset, 0, 2);
    row_ += token_stride_;
  }

 private:
  FetchAhead(const SpanArgs& args, const char* base, int64_t page_stride, int64_t head_stride,
             int64_t token_stride, int head_dim, int begin, int end)
      : base_(base),
        pages_(args.kv.pages),
        page_stride_(page_stride),
        head_stride_(head_stride),
        token_stride_(token_stride),
        row_bytes_(int64_t{head_dim} * kKvElementBytes[args.kv.element]),
        num_heads_(args.num_heads),
        page_size_(args.kv.page_size),
        begin_(begin),
        end_(end),
        next_head_(0) {}

  // The tokens of the next head in this page, or of the first head in the next page.
  bool next_run() {
    if (begin_ >= end_) return false;
    const int page = begin_ / page_size_;
    const int page_end = (page + 1) * page_size_ < end_ ? (page + 1) * page_size_ : end_;
    row_ =
        base_ + pages_[page] * page_stride_ + next_head_ * head_stride_ + begin_ % page_size_ * token_stride_;
    row_end_ = row_ + (page_end - begin_) * token_stride_;
    if (++next_head_ == num_heads_) {
      next_head_ = 0;
      begin_ = page_end;
    }
    return true;
  }

  const char* row_ = nullptr;
  const char* row_end_ = nullptr;
  const char* base_ = nullptr;
  const int32_t* pages_ = nullptr;
  int64_t page_stride_ = 0, head_stride_ = 0, token_stride_ = 0, row_bytes_ = 0;
  int num_heads_ = 0, page_size_ = 1;
  int begin_ = 0, end_ = 0;  // keys left
  int next_head_ = 0;
};

}  // namespace
}  // namespace bifocal::kernels::cpu
