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
  return {first > args.span_begin ? first : args.span_begin, last < args.span_end ? last : args.span_end};
}

// The keys of the block that row `row` sees, relative to the block.
inline KeyRange visible_in_block(const SpanArgs& args, int row, int block) {
  const int begin = args.key_begin[row] - block;
  const int end = args.key_end[row] - block;
  return {begin < 0 ? 0 : begin, end > kKeyBlock ? kKeyBlock : end};
}

// Addresses of the keys and values of a block; [begin, end) are those that the tile sees. Entries outside
// repeat the nearest of these, so that whole registers can be filled without touching memory that holds no
// key.
template <class Storage>
struct KeyBlock {
  int begin = 0;
  int end = 0;
  const Storage* k[kKeyBlock];
  const Storage* v[kKeyBlock];
};

// range.begin < block + kKeyBlock and range.end > block.
template <class Storage>
void locate_block(const KvHeadView& kv, int block, KeyRange range, KeyBlock<Storage>* keys) {
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

}  // namespace
}  // namespace bifocal::kernels::cpu
