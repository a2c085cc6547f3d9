// Which keys a tile, and a row of it, sees in a block; and where they lie.
#pragma once

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/element.h"

namespace bifocal::kernels::cpu {

// Array bounds from the int constants that the loops use.
constexpr size_t extent(int n) {
  return static_cast<size_t>(n);
}

struct KeyRange {
  int begin = 0;
  int end = 0;
};

// The keys of this span that some row of the tile sees.
inline KeyRange tile_keys(const SpanArgs& args) {
  const int first = args.key_begin[0];
  const int last = args.key_end[args.num_rows - 1];
  return {first > args.span_begin ? first : args.span_begin, last < args.span_end ? last : args.span_end};
}

// The keys of the block that row `row` sees, relative to the block.
inline KeyRange visible_in_block(const SpanArgs& args, int row, int block) {
  const int begin = args.key_begin[row] - block;
  const int end = args.key_end[row] - block;
  return {begin < 0 ? 0 : begin, end > kAttentionKeyBlock ? kAttentionKeyBlock : end};
}

// Byte addresses of the keys of a block; [begin, end) are keys that the tile sees. Entries outside repeat the
// nearest of these, so that whole registers can be filled without touching memory that holds no key.
struct KeyBlock {
  int begin = 0;
  int end = 0;
  const char* k[kAttentionKeyBlock];
  const char* v[kAttentionKeyBlock];
};

inline void locate_block(const KvHeadView& kv, int block, KeyRange range, KeyBlock* keys) {
  const int64_t bytes = kv.dtype == DType::f32 ? 4 : kv.dtype == DType::f8_e4m3 ? 1 : 2;
  const int begin = range.begin > block ? range.begin - block : 0;
  const int end = range.end - block < kAttentionKeyBlock ? range.end - block : kAttentionKeyBlock;
  int page = (block + begin) / kv.page_size;
  int64_t token = block + begin - page * kv.page_size;
  for (int i = begin; i < end; ++page, token = 0) {
    const int64_t id = kv.pages[page];
    const char* k = static_cast<const char*>(kv.k) + id * kv.k_page_stride * bytes;
    const char* v = static_cast<const char*>(kv.v) + id * kv.v_page_stride * bytes;
    for (; token < kv.page_size && i < end; ++token, ++i) {
      keys->k[i] = k + token * kv.k_token_stride * bytes;
      keys->v[i] = v + token * kv.v_token_stride * bytes;
    }
  }
  for (int i = 0; i < begin; ++i) {
    keys->k[i] = keys->k[begin];
    keys->v[i] = keys->v[begin];
  }
  for (int i = end; i < kAttentionKeyBlock; ++i) {
    keys->k[i] = keys->k[end - 1];
    keys->v[i] = keys->v[end - 1];
  }
  keys->begin = begin;
  keys->end = end;
}

}  // namespace bifocal::kernels::cpu
