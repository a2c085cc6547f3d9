// Which keys a tile, and a row of it, sees in a block; and where they lie. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/span.h"
#include "kernels/cpu/simd.h"

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

// Keys that are computed for one head before the next head's turn: pages hold their heads one after another,
// so that with this many keys memory is read in the order of its addresses.
inline int keys_per_turn(const SpanArgs& args) {
  const int page_size = args.kv.page_size;
  if (page_size >= kKeyBlock) return kKeyBlock;
  return page_size < 32 ? 16 : 32;
}

// Rows of one head that lie one after another in a page.
struct RowRun {
  const char* begin = nullptr;
  const char* end = nullptr;
  int64_t stride = 0;     // bytes from row to row
  int64_t row_bytes = 0;  // of each
};

// The runs of the KV cache in the order in which a kernel reads them: a block's keys, its values, the next
// block's keys; of each head after head and page after page.
class RunCursor {
 public:
  // From the keys [begin, end) on; `end` may lie in a later block.
  RunCursor(const SpanArgs& args, int begin, int end)
      : args_(args), end_(end), block_begin_(begin), block_end_(block_end(begin)), key_(begin) {
    start_segment(false);
  }

  // False when there are no more.
  bool next(RowRun* run) {
    if (key_ == block_end_) next_head();
    if (block_begin_ >= end_) return false;
    const KvView& kv = args_.kv;
    const int page = key_ / kv.page_size;
    const int page_end = (page + 1) * kv.page_size;
    const int run_end = block_end_ < page_end ? block_end_ : page_end;
    run->begin =
        base_ + kv.pages[page] * page_stride_ + head_ * head_stride_ + key_ % kv.page_size * token_stride_;
    run->end = run->begin + (run_end - key_) * token_stride_;
    run->stride = token_stride_;
    run->row_bytes = row_bytes_;
    key_ = run_end;
    return true;
  }

 private:
  int block_end(int key) const {
    const int end = (key / kKeyBlock + 1) * kKeyBlock;
    return end < end_ ? end : end_;
  }
  void start_segment(bool values) {
    const KvView& kv = args_.kv;
    values_ = values;
    base_ = values ? kv.v : kv.k;
    page_stride_ = values ? kv.v_page_stride : kv.k_page_stride;
    head_stride_ = values ? kv.v_head_stride : kv.k_head_stride;
    token_stride_ = values ? kv.v_token_stride : kv.k_token_stride;
    row_bytes_ = int64_t{values ? args_.head_dim_v : args_.head_dim_k} * kKvElementBytes[kv.element];
  }
  // Or the first head of the values, or of the next block's keys.
  void next_head() {
    if (++head_ == args_.num_heads) {
      head_ = 0;
      if (values_) {
        block_begin_ = block_end_;
        block_end_ = block_end(block_begin_);
      }
      start_segment(!values_);
    }
    key_ = block_begin_;
  }

  const SpanArgs& args_;
  const char* base_ = nullptr;  // of the segment: a block's keys or its values
  int64_t page_stride_ = 0, head_stride_ = 0, token_stride_ = 0, row_bytes_ = 0;
  bool values_ = false;
  int end_;
  int block_begin_;
  int block_end_;
  int key_;
  int head_ = 0;
};

// For kernels that compute with tiles: fetches rows into the second-level cache some kilobytes before they
// are read, some at a time between the products. Further ahead it touches two lines of every 4 KiB: where
// pages of the cache lie anywhere in memory, finding out where costs as much as reading.
class FetchAhead {
 public:
  FetchAhead(const SpanArgs& args, int begin, int end) : near_(args, begin, end), far_(args, begin, end) {
    for (int64_t bytes = 0; bytes < kTranslateLeadBytes;) {
      const int64_t run_bytes = translate_run();
      if (run_bytes == 0) break;
      bytes += run_bytes;
    }
    for (int64_t bytes = 0; bytes < kLeadBytes && fetch_row(); bytes += run_.row_bytes) continue;
  }

  void fetch_rows(int count) {
    for (; count > 0; --count) {
      // Rows that follow one another in memory, as they mostly do, are one piece of it.
      const char* const end = run_.begin + count * run_.stride;
      if (run_.stride == run_.row_bytes && end <= run_.end) {
        for (const char* p = run_.begin; p < end; p += 64) simd::prefetch_second_level(p);
        run_.begin = end;
        return;
      }
      fetch_row();
    }
  }

 private:
  static constexpr int64_t kLeadBytes = 16384;
  static constexpr int64_t kTranslateLeadBytes = 65536;
  static constexpr int64_t kTranslatedBytes = 2048;

  // False when there are no more.
  bool fetch_row() {
    if (run_.begin == run_.end) {
      if (!near_.next(&run_)) return false;
      translate_run();
    }
    for (int64_t offset = 0; offset < run_.row_bytes; offset += 64) {
      simd::prefetch_second_level(run_.begin + offset);
    }
    run_.begin += run_.stride;
    return true;
  }

  // Bytes of the run; 0 when there are no more.
  int64_t translate_run() {
    RowRun run;
    if (!far_.next(&run)) return 0;
    for (const char* p = run.begin; p < run.end; p += kTranslatedBytes) simd::prefetch_second_level(p);
    return run.end - run.begin;
  }

  RunCursor near_;
  RunCursor far_;
  RowRun run_;  // what is left of it
};

// A block's rows of one head, fetched in small portions all along the head's arithmetic: memory has something
// to do at all times, and never more than it takes at once.
class FetchShare {
 public:
  explicit FetchShare(FetchAhead& ahead) : ahead_(&ahead) {}
  // Nothing when all have been fetched.
  void fetch(int num_rows) {
    const int rows = num_rows < left_ ? num_rows : left_;
    ahead_->fetch_rows(rows);
    left_ -= rows;
  }
  void fetch_rest() { fetch(left_); }

 private:
  FetchAhead* ahead_;
  int left_ = kKeyBlock;
};

}  // namespace
}  // namespace bifocal::kernels::cpu
