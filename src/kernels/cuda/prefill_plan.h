// How a prefill step is cut into work: the arithmetic that the plan kernel, the prefill kernel and the tests
// share. Plain C++, so a test checks it without a GPU.
//
// An item is one tile of query rows of one KV head: kPrefillRows rows in the order (token, head of the
// group), against all keys that any of them sees. Keys fall into blocks at absolute multiples of a fixed
// length, whatever the chunk; a row's result is one pass over its blocks from the last to the first. So
// neither the batch nor the chunking nor who takes an item changes a bit of it.
//
// Items stand in the order in which CTAs take them. Longest sequence first, in a sequence the last tokens
// first: the last items to be taken are short, and all CTAs end at about the same time. The heads whose keys
// and values fit into the L2 together are done before the next ones.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_plan.h"

namespace bifocal::kernels::cuda {

constexpr int kPrefillRows = 128;

// Keys of a block.
BIFOCAL_HD constexpr int prefill_block_keys(int head_dim) {
  return head_dim == 256 ? 64 : 128;
}

// What the order of items depends on besides lengths.
struct PrefillRule {
  int32_t tile_tokens = 0;  // kPrefillRows / group, rounded down
  int32_t num_kv_heads = 0;
  int32_t window = 0;
  int32_t section_keys = 0;  // keys of one head, K and V, that the L2 keeps
};

BIFOCAL_HD PrefillRule prefill_rule(int num_heads, int num_kv_heads, int head_dim, int window) {
  constexpr int kSectionBytes = 32 << 20;
  return {kPrefillRows / (num_heads / num_kv_heads), num_kv_heads, window, kSectionBytes / (head_dim * 4)};
}

BIFOCAL_HD int prefill_tiles(const PrefillRule& rule, int q_len) {
  return q_len > 0 ? (q_len + rule.tile_tokens - 1) / rule.tile_tokens : 0;
}

BIFOCAL_HD int prefill_items(const PrefillRule& rule, int q_len) {
  return prefill_tiles(rule, q_len) * rule.num_kv_heads;
}

// How many items CTAs have taken; a run leaves it at 0.
struct PrefillQueue {
  int32_t num_items = 0;
  int32_t taken = 0;
};

struct PrefillItem {
  int32_t seq = -1;
  int32_t head = 0;        // KV head
  int32_t q_row = 0;       // of the first token
  int32_t num_tokens = 0;  // at most tile_tokens
  int32_t position = 0;    // of the first token in its sequence: the last key that it sees
  int32_t kv_begin = 0;    // first key that any row sees
  int32_t kv_len = 0;      // of the sequence; beyond lie keys that nobody wrote
  int32_t padding = 0;
};
static_assert(sizeof(PrefillItem) == 32);

// Item `index` of a sequence.
BIFOCAL_HD PrefillItem prefill_item(const PrefillRule& rule, int seq, int q_begin, int q_len, int kv_len,
                                    int index) {
  const int tiles = prefill_tiles(rule, q_len);
  const int fitting = rule.section_keys / (kv_len > 1 ? kv_len : 1);
  const int heads = fitting < 1 ? 1 : (fitting < rule.num_kv_heads ? fitting : rule.num_kv_heads);
  const int section = index / (tiles * heads);
  const int first_head = section * heads;
  const int left = rule.num_kv_heads - first_head;
  const int width = left < heads ? left : heads;
  const int inside = index - section * tiles * heads;
  const int tile = tiles - 1 - inside / width;
  const int token = tile * rule.tile_tokens;
  PrefillItem item;
  item.seq = seq;
  item.head = first_head + inside % width;
  item.q_row = q_begin + token;
  item.num_tokens = q_len - token < rule.tile_tokens ? q_len - token : rule.tile_tokens;
  item.position = kv_len - q_len + token;
  item.kv_len = kv_len;
  const int begin = rule.window > 0 ? item.position + 1 - rule.window : 0;
  item.kv_begin = begin > 0 ? begin : 0;
  if (kv_len <= 0) item.kv_begin = 1;  // no key counts, not even the first
  return item;
}

// Blocks of `keys` keys that an item passes through, from end - 1 down to begin: at least one, so that every
// row has someone to write it.
struct PrefillBlocks {
  int begin;
  int end;
};

BIFOCAL_HD PrefillBlocks prefill_blocks(const PrefillItem& item, int keys) {
  const int kv_end = item.position + item.num_tokens;
  return {item.kv_begin / keys, kv_end > 0 ? (kv_end - 1) / keys + 1 : 1};
}

}  // namespace bifocal::kernels::cuda
