// How a prefill step is cut into work: the arithmetic that the plan kernel, the prefill kernel and the tests
// share. Plain C++, so a test checks it without a GPU.
//
// An item is one tile of query rows of one KV head: kPrefillCtas times kPrefillRows rows in the order (token,
// head of the group), against all keys that any of them sees. The CTAs of a cluster take it together, each
// its share of the rows, and fetch every key once. Keys fall into blocks at absolute multiples of a fixed
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

constexpr int kPrefillCtas = 2;    // of a cluster
constexpr int kPrefillRows = 128;  // of a CTA

// Keys of a block.
BIFOCAL_HD constexpr int prefill_block_keys(int head_dim) {
  return head_dim == 256 ? 64 : 128;
}

// What the order of items depends on besides lengths.
struct PrefillRule {
  int32_t cta_tokens = 0;  // kPrefillRows / group, rounded down
  int32_t num_kv_heads = 0;
  int32_t window = 0;
  int32_t section_keys = 0;  // keys of one head, K and V, that the L2 keeps
};

BIFOCAL_HD PrefillRule prefill_rule(int num_heads, int num_kv_heads, int head_dim, int window) {
  constexpr int kSectionBytes = 32 << 20;
  return {kPrefillRows / (num_heads / num_kv_heads), num_kv_heads, window, kSectionBytes / (head_dim * 4)};
}

BIFOCAL_HD int prefill_tile_tokens(const PrefillRule& rule) {
  return kPrefillCtas * rule.cta_tokens;
}

// n / d for 0 <= n, 0 < d and quotients below 2^21.
BIFOCAL_HD int prefill_quotient(int n, int d) {
#ifdef __CUDA_ARCH__
  // A quarter of a whole division: the estimate is off by one at most.
  const int quotient = static_cast<int>(__fdividef(static_cast<float>(n), static_cast<float>(d)));
  const int rest = n - quotient * d;
  return quotient + (rest < 0 ? -1 : (rest >= d ? 1 : 0));
#else
  return n / d;
#endif
}

BIFOCAL_HD int prefill_tiles(const PrefillRule& rule, int q_len) {
  const int tokens = prefill_tile_tokens(rule);
  return q_len > 0 ? prefill_quotient(q_len + tokens - 1, tokens) : 0;
}

// A sequence whose rows one CTA can take: the CTAs of a cluster take neighbouring heads instead.
BIFOCAL_HD bool prefill_pairs_heads(const PrefillRule& rule, int q_len) {
  return q_len <= rule.cta_tokens;
}

BIFOCAL_HD int prefill_items(const PrefillRule& rule, int q_len) {
  const int heads = rule.num_kv_heads;
  return prefill_tiles(rule, q_len) *
         (prefill_pairs_heads(rule, q_len) ? (heads + kPrefillCtas - 1) / kPrefillCtas : heads);
}

// Sequences are taken from the largest value down: by length, among equals in the order of the batch. No two
// are equal, none is 0. Beyond 2^22 - 1 tokens lengths count as equal.
constexpr int kMaxPrefillSeqs = 1024;
BIFOCAL_HD uint32_t prefill_order(int kv_len, int seq) {
  constexpr int kMost = (1 << 22) - 1;
  const int length = kv_len < 0 ? 0 : (kv_len < kMost ? kv_len : kMost);
  return static_cast<uint32_t>(length) * kMaxPrefillSeqs + static_cast<uint32_t>(kMaxPrefillSeqs - 1 - seq);
}

// Items of a step, of all sequences together: fewer than this.
constexpr int kMaxPrefillItems = 1 << 22;

// How many items CTAs have taken; a run leaves it at 0.
struct PrefillQueue {
  int32_t num_items = 0;
  int32_t taken = 0;
};

// What the plan kernel writes of an item; the rest follows from it.
struct alignas(16) PrefillRecord {
  uint16_t seq = 0;
  uint16_t head = 0;     // KV head, the first of neighbouring ones with kNeighbouringHeads
  int32_t q_row = 0;     // of the first token
  int32_t position = 0;  // of the first token in its sequence: the last key that it sees
  int32_t kv_len = 0;    // of the sequence; beyond lie keys that nobody wrote
};
static_assert(sizeof(PrefillRecord) == 16);
constexpr int kNeighbouringHeads = 1 << 15;

// Heads whose keys and values the L2 keeps together.
BIFOCAL_HD int prefill_section_heads(const PrefillRule& rule, int kv_len) {
  const int fitting = prefill_quotient(rule.section_keys, kv_len > 1 ? kv_len : 1);
  return fitting < 1 ? 1 : (fitting < rule.num_kv_heads ? fitting : rule.num_kv_heads);
}

// Item `index` of a sequence with `tiles` tiles and `heads` heads to a section.
BIFOCAL_HD PrefillRecord prefill_record(const PrefillRule& rule, int seq, int q_begin, int q_len, int kv_len,
                                        int tiles, int heads, int index) {
  if (prefill_pairs_heads(rule, q_len)) {
    const int head = index * kPrefillCtas;
    const int flag = head + kPrefillCtas <= rule.num_kv_heads ? kNeighbouringHeads : 0;
    return {static_cast<uint16_t>(seq), static_cast<uint16_t>(head | flag), q_begin, kv_len - q_len, kv_len};
  }
  const int section = prefill_quotient(index, tiles * heads);
  const int first_head = section * heads;
  const int left = rule.num_kv_heads - first_head;
  const int width = left < heads ? left : heads;
  const int inside = index - section * tiles * heads;
  const int row = prefill_quotient(inside, width);
  const int token = (tiles - 1 - row) * prefill_tile_tokens(rule);
  return {static_cast<uint16_t>(seq), static_cast<uint16_t>(first_head + inside - row * width),
          q_begin + token, kv_len - q_len + token, kv_len};
}

struct alignas(16) PrefillItem {
  int32_t seq = -1;
  int32_t head = 0;        // KV head
  int32_t q_row = 0;       // of the first token
  int32_t num_tokens = 0;  // may be 0 in a CTA's share
  int32_t position = 0;    // of the first token in its sequence: the last key that it sees
  int32_t kv_begin = 0;    // first key that any row of the whole item sees
  int32_t kv_end = 0;      // behind the last one; not more than 0: there are none
  int32_t kv_len = 0;      // of the sequence; beyond lie keys that nobody wrote
  int32_t heads = 1;       // neighbouring heads, one to each CTA, instead of one for all of them
  int32_t padding[3] = {};
};
static_assert(sizeof(PrefillItem) == 48);

BIFOCAL_HD PrefillItem prefill_item(const PrefillRule& rule, const PrefillRecord& record) {
  const int left = record.kv_len - record.position;  // the sequence's tokens from this one on
  const int most = prefill_tile_tokens(rule);
  PrefillItem item;
  item.seq = record.seq;
  item.head = record.head & (kNeighbouringHeads - 1);
  item.heads = (record.head & kNeighbouringHeads) != 0 ? kPrefillCtas : 1;
  item.q_row = record.q_row;
  item.num_tokens = left < most ? left : most;
  item.position = record.position;
  const int begin = rule.window > 0 ? record.position + 1 - rule.window : 0;
  item.kv_begin = begin > 0 ? begin : 0;
  if (record.kv_len <= 0) item.kv_begin = 1;  // no key counts, not even the first
  item.kv_end = item.position + item.num_tokens;
  item.kv_len = record.kv_len;
  return item;
}

// The rows of an item that the CTA of this rank takes, against the keys of the whole item.
BIFOCAL_HD PrefillItem prefill_share(const PrefillRule& rule, const PrefillItem& item, int rank) {
  PrefillItem share = item;
  if (item.heads > 1) {
    share.head += rank;
    return share;
  }
  const int first = rank * rule.cta_tokens;
  const int left = item.num_tokens - first;
  share.num_tokens = left < 0 ? 0 : (left < rule.cta_tokens ? left : rule.cta_tokens);
  share.q_row += first;
  share.position += first;
  return share;
}

// Blocks of `keys` keys that an item passes through, from end - 1 down to begin: at least one, so that every
// row has someone to write it.
struct PrefillBlocks {
  int begin;
  int end;
};

BIFOCAL_HD PrefillBlocks prefill_blocks(const PrefillItem& item, int keys) {
  return {item.kv_begin / keys, item.kv_end > 0 ? (item.kv_end - 1) / keys + 1 : 1};
}

}  // namespace bifocal::kernels::cuda
