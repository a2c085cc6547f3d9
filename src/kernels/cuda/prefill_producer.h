// The producer side of the prefill kernel: a warp that takes items, for all CTAs of the cluster, a warp that
// keeps the ring of blocks full, in each of them.
#pragma once

#include "kernels/cuda/prefill_shared.h"

namespace bifocal::kernels::cuda {

// Pages of an item from its last one down: ids, one per lane, the next ones already under way.
struct PrefillPages {
  const int32_t* table;
  int first;
  int top;  // page of lane 0; -1: there are no keys
  int ids;
  int next;

  // Without the ids.
  template <int kD>
  static __device__ __forceinline__ PrefillPages of(const PrefillParams& params, const PrefillItem& item) {
    constexpr int kN = PrefillShape<kD>::kN;
    PrefillPages pages;
    pages.table = params.page_table + item.seq * params.page_table_stride;
    pages.first = item.kv_begin >> params.page_log2;
    pages.top = (min(prefill_blocks(item, kN).end * kN, item.kv_len) - 1) >> params.page_log2;
    return pages;
  }
  __device__ __forceinline__ int load(int page) const {
    const int mine = page - static_cast<int>(threadIdx.x) % 32;
    return mine >= first ? table[mine] : 0;
  }
  __device__ __forceinline__ int id(int page) {
    if (page <= top - 32) {
      top -= 32;
      ids = next;
      next = load(top - 32);
    }
    return __shfl_sync(~0U, ids, top - page);
  }
};

// Every CTA of the cluster gets its share of the item and the ids of the pages.
__device__ __forceinline__ void hand_out(const PrefillRule& rule, const PrefillItem& item, int page,
                                         const PrefillWork& work, uint64_t* full) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t rank = 0; rank < kPrefillCtas; ++rank) {
    const uint32_t barrier = cluster_address(full, rank);
    cluster_store(cluster_address(&work.pages[lane], rank), page, barrier);
    if (lane != rank) continue;
    const PrefillItem share = prefill_share(rule, item, static_cast<int>(rank));
    const uint32_t at = cluster_address(&work.item, rank);
    cluster_store(at, int4{share.seq, share.head, share.q_row, share.num_tokens}, barrier);
    cluster_store(at + 16, int4{share.position, share.kv_begin, share.kv_end, share.kv_len}, barrier);
    cluster_store(at + 32, int4{share.heads, 0, 0, 0}, barrier);
    mbarrier_expect_cluster(barrier, sizeof(PrefillWork));
  }
}

// Takes items from the queue ahead of the others, in one CTA of the cluster. Beyond the clusters' first items
// exactly num_items draws are made, those that find nothing included, so the last one can leave the queue as
// it was.
template <int kD>
__device__ __forceinline__ void schedule_prefill(PrefillShared<kD>& shared, const PrefillParams& params) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_items = params.queue->num_items;
  int index = static_cast<int>(blockIdx.x) / kPrefillCtas;
  RingCursor<PrefillShape<kD>::kItemSlots> ring;
  while (true) {
    mbarrier_wait(&shared.work_empty[ring.slot], ring.phase ^ 1);
    PrefillItem item;
    int page = 0;
    if (index < num_items) {
      item = prefill_item(params.rule, params.records[index]);
      const PrefillPages pages = PrefillPages::of<kD>(params, item);
      page = pages.load(pages.top);
    }
    hand_out(params.rule, item, page, shared.work[ring.slot], &shared.work_full[ring.slot]);
    if (item.seq < 0) break;
    ring.advance();
    int taken = 0;
    if (lane == 0) taken = atomicAdd(&params.queue->taken, 1);
    if (lane == 0 && taken == num_items - 1) params.queue->taken = 0;
    index = __shfl_sync(~0U, taken, 0) + static_cast<int>(gridDim.x) / kPrefillCtas;
  }
}

// One lane of the producer warp does the copying; all look up pages.
template <int kD>
struct PrefillProducer {
  using S = PrefillShape<kD>;
  PrefillShared<kD>& shared;
  const PrefillParams& params;
  RingCursor<S::kSlots> ring;
  RingCursor<S::kQSlots> q_ring;
  uint32_t rank = cluster_rank();
  uint32_t turn = 0;
  int lane = static_cast<int>(threadIdx.x) % 32;

  __device__ __forceinline__ void produce_queries(const PrefillItem& item) {
    mbarrier_wait(&shared.q_empty[q_ring.slot], q_ring.phase ^ 1);
    if (lane == 0) {
      uint64_t* full = &shared.q_full[q_ring.slot];
      mbarrier_expect(full, static_cast<uint32_t>(S::kPanels * 128) * params.q_rows);
      for (int panel = 0; panel < S::kPanels; ++panel) {
        load_tensor_3d(shared.q[q_ring.slot] + panel * S::kQPanelBytes, &params.q_map, full, 64 * panel,
                       item.head * params.group, item.q_row, kEvictFirst);
      }
    }
    q_ring.advance();
  }

  // Where the copy engine finds the tiles of a block that this CTA copies.
  struct Tiles {
    uint32_t bytes;  // of all tiles that hold keys of the item
    int heads;       // of which each CTA has its own
    int group[S::kOwnTiles];
    int outermost[S::kOwnTiles];  // -1: the tile holds no keys of the item
  };
  __device__ __forceinline__ int own_tile(int i) const {
    return S::kInTurns ? i : static_cast<int>(rank) * S::kOwnTiles + i;
  }
  __device__ __forceinline__ Tiles locate(const PrefillItem& item, PrefillPages& pages, int block) const {
    const auto first_token = [block](int tile) { return (block * S::kTiles + tile) * kTileTokens; };
    const auto counts = [&item](int token) {
      return token < item.kv_len && token + kTileTokens > item.kv_begin;
    };
    Tiles tiles;
    tiles.bytes = 0;
    tiles.heads = item.heads;
    const int head = item.heads > 1 ? item.head - static_cast<int>(rank) : item.head;
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i) tiles.bytes += counts(first_token(i)) ? S::kTileBytes : 0;
#pragma unroll
    for (int i = S::kOwnTiles - 1; i >= 0; --i) {
      const int token = first_token(own_tile(i));
      tiles.outermost[i] = -1;
      if (!counts(token)) continue;
      const int page = token >> params.page_log2;
      const int id = pages.id(page) + params.first_page;
      tiles.group[i] = (token - (page << params.page_log2)) / 8 + head * params.origin.groups_per_head +
                       id * params.origin.groups_per_page;
      tiles.outermost[i] = params.origin.pages_outermost ? id : head;
    }
    return tiles;
  }

  // Into the next slot of all CTAs, once all of them have released it.
  __device__ __forceinline__ void produce_block(const CUtensorMap* map, const Tiles& tiles) {
    mbarrier_wait(&shared.empty[ring.slot], ring.phase ^ 1);
    if (lane == 0) {
      uint64_t* full = &shared.full[ring.slot];
      mbarrier_expect(full, tiles.bytes);
#pragma unroll
      for (int i = S::kOwnTiles - 1; i >= 0; --i) {
        if (tiles.outermost[i] < 0 || (S::kInTurns && turn != rank)) continue;
        uint8_t* to = shared.blocks[ring.slot] + own_tile(i) * S::kTileBytes;
        const uint32_t all = (1 << kPrefillCtas) - 1;
        for (int head = 0; head < tiles.heads; ++head) {
          load_tensor_5d_multicast(to, map, full, 0, 0, 0,
                                   tiles.group[i] + head * params.origin.groups_per_head,
                                   tiles.outermost[i] + (params.origin.pages_outermost ? 0 : head),
                                   static_cast<uint16_t>(tiles.heads > 1 ? 1U << head : all), kEvictLast);
        }
      }
    }
    if constexpr (S::kInTurns) turn = (turn + 1) % kPrefillCtas;
    ring.advance();
  }
};

// Values trail keys by one block, across items: the order in which the consumers want them.
template <int kD>
__device__ __forceinline__ void produce_prefill(PrefillShared<kD>& shared, const PrefillParams& params) {
  using S = PrefillShape<kD>;
  PrefillProducer<kD> producer{shared, params};
  RingCursor<S::kItemSlots> items;
  typename PrefillProducer<kD>::Tiles before{};
  bool any = false;
  while (true) {
    mbarrier_wait(&shared.work_full[items.slot], items.phase);
    // Stays in shared memory: this warp has few registers. The consumers release it after their last block.
    const PrefillWork& work = shared.work[items.slot];
    const PrefillItem& item = work.item;
    if (item.seq < 0) break;
    if (S::kQSlots > 1) producer.produce_queries(item);
    PrefillPages pages = PrefillPages::of<kD>(params, item);
    pages.ids = work.pages[threadIdx.x % 32];
    pages.next = pages.load(pages.top - 32);
    int block = prefill_blocks(item, S::kN).end;
    do {
      const auto tiles = producer.locate(item, pages, --block);
      producer.produce_block(params.k_map, tiles);
      if (any) producer.produce_block(params.v_map, before);
      // With one slot, the last item's rows are in use until its last keys are.
      if (S::kQSlots == 1 && block == prefill_blocks(item, S::kN).end - 1) producer.produce_queries(item);
      before = tiles;
      any = true;
    } while (block > prefill_blocks(item, S::kN).begin);
    items.advance();
  }
  if (any) producer.produce_block(params.v_map, before);
}

}  // namespace bifocal::kernels::cuda
