// The consumer side of the prefill kernel: what a warpgroup does with its rows.
#pragma once

#include <cmath>

#include "kernels/cuda/prefill_rows.h"
#include "kernels/cuda/prefill_shared.h"

namespace bifocal::kernels::cuda {

// A warpgroup's 64 rows, item after item. The products of a block's keys are issued together with those of
// the values of the block before, also when that block is the last one of the item before: the tensor cores
// never wait for an item to end. Items stay in shared memory: registers are scarce.
template <int kD, bool kSoftcap>
struct PrefillConsumer {
  using S = PrefillShape<kD>;
  // Of so many exponentials one is a polynomial, off the special function unit; 0: none. With head dim 64
  // that unit would have as much to do as the tensor cores, with a softcap more.
  static constexpr int kPolynomialEvery = kD != 64 ? 0 : (kSoftcap ? 4 : 8);
  PrefillShared<kD>& shared;
  const PrefillParams& params;
  const int first_row;
  RingCursor<S::kSlots> ring;  // at the next block of keys; the values of the block before it come next
  RingCursor<S::kItemSlots> items;
  RingCursor<S::kQSlots> q_ring;
  int accumulate = 0;     // whether o holds anything of the item
  uint32_t existing = 0;  // of the last block, keys in [existing & 255, existing >> 8) exist; 0: all do
  RowState state;
  float s[S::kN / 2];
  uint32_t p[S::kN / 4];
  float o[kD / 2];

  __device__ __forceinline__ void release(uint64_t* barrier) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
  }
  // The same at the barriers of all CTAs: each fills its part of the slot in all of them.
  __device__ __forceinline__ void release_block(int slot) const {
    __syncwarp();
    if (threadIdx.x % 32 != 0) return;
#pragma unroll
    for (uint32_t rank = 0; rank < kPrefillCtas; ++rank) {
      mbarrier_arrive_cluster(cluster_address(&shared.empty[slot], rank));
    }
  }
  __device__ __forceinline__ const PrefillItem& item() const {
    return shared.work[items.slot].item;
  }

  // Whether half of the item's first block is enough.
  __device__ __forceinline__ bool first_is_half() const {
    return S::kN == 128 && item().kv_end - (prefill_blocks(item(), S::kN).end - 1) * S::kN <= 64;
  }

  // Waits for an item; false when there are no more.
  __device__ __forceinline__ bool open_item() {
    mbarrier_wait(&shared.work_full[items.slot], items.phase);
    if (item().seq < 0) return false;
    mbarrier_wait(&shared.q_full[q_ring.slot], q_ring.phase);
    return true;
  }

  // The logits of a block's first kKeys keys.
  template <int kKeys>
  __device__ __forceinline__ float (&logits())[kKeys / 2] {
    return reinterpret_cast<float(&)[kKeys / 2]>(s);
  }
  template <int kKeys>
  __device__ __forceinline__ void issue_keys() {
    mbarrier_wait(&shared.full[ring.slot], ring.phase);
    wgmma_fence();
    multiply_keys<kD, kKeys>(smem_address(shared.q[q_ring.slot]) + first_row / 64 * (64 * 128),
                             smem_address(shared.blocks[ring.slot]), logits<kKeys>());
    wgmma_commit();
  }
  __device__ __forceinline__ void issue_values(const RingCursor<S::kSlots>& values) {
    mbarrier_wait(&shared.full[values.slot], values.phase);
    wgmma_fence();
    multiply_values<kD>(p, smem_address(shared.blocks[values.slot]), accumulate, o);
    wgmma_commit();
    accumulate = 1;
  }
  // Before any product is issued: the rows of V that hold no keys.
  __device__ __forceinline__ void clear_if_needed(const RingCursor<S::kSlots>& values) {
    if (existing == 0) return;
    mbarrier_wait(&shared.full[values.slot], values.phase);
    clear_values<kD>(shared.blocks[values.slot], static_cast<int>(existing & 255),
                     static_cast<int>(existing >> 8), static_cast<uint32_t>(1 + first_row / 64));
    existing = 0;
  }

  template <bool kMasked, int kKeys>
  __device__ __forceinline__ void mask(int block) {
    if constexpr (kSoftcap) cap_logits(params.inner, logits<kKeys>());
    if constexpr (kMasked) {
      const int first_key = block * S::kN;
      const PrefillItem& now = item();
      mask_keys<kKeys>(params, first_row, now.position, first_key, logits<kKeys>());
      if (first_key < now.kv_begin || first_key + S::kN > now.kv_len) {
        existing = static_cast<uint32_t>(max(now.kv_begin - first_key, 0)) |
                   static_cast<uint32_t>(min(max(now.kv_len - first_key, 1), S::kN)) << 8;
      }
    }
  }

  // An item's first block: what its logits are relative to.
  template <int kKeys>
  __device__ __forceinline__ void open_rows() {
    mask<true, kKeys>(prefill_blocks(item(), S::kN).end - 1);
#pragma unroll
    for (int i = 0; i < 2; ++i) state.m[i] = reference_of<kKeys>(i, params.cap, logits<kKeys>());
  }

  // The first block of all, of which no row sees more than kKeys keys.
  template <int kKeys>
  __device__ __forceinline__ void start() {
    issue_keys<kKeys>();
    wgmma_wait<0>();
    wgmma_touch(s);
    release_block(ring.slot);
    ring.advance();
    open_rows<kKeys>();
    start_rows<kKeys, kPolynomialEvery>(params.cap, logits<kKeys>(), state, p);
  }

  template <bool kMasked>
  __device__ __forceinline__ void step(int block) {
    RingCursor<S::kSlots> values = ring;
    values.advance();
    clear_if_needed(values);
    issue_keys<S::kN>();
    issue_values(values);
    wgmma_wait<1>();
    wgmma_touch(s);
    release_block(ring.slot);
    mask<kMasked, S::kN>(block);
    wgmma_wait<0>();
    wgmma_touch(o);
    release_block(values.slot);
    continue_rows<S::kN, kPolynomialEvery>(params.cap, s, state, p, o);
    ring = values;
    ring.advance();
  }

  // The first block of an item, of which no row sees more than kKeys keys, with the last values of the item
  // before.
  template <int kKeys>
  __device__ __forceinline__ void change_item(const RingCursor<S::kItemSlots>& before) {
    RingCursor<S::kSlots> values = ring;
    values.advance();
    clear_if_needed(values);
    issue_keys<kKeys>();
    issue_values(values);
    wgmma_wait<1>();
    wgmma_touch(s);
    release_block(ring.slot);
    const RowState done = state;
    open_rows<kKeys>();
    wgmma_wait<0>();
    wgmma_touch(o);
    release_block(values.slot);
    start_rows<kKeys, kPolynomialEvery>(params.cap, logits<kKeys>(), state, p);
    write(before, done);
    accumulate = 0;
    ring = values;
    ring.advance();
  }

  // The last values of all.
  __device__ __forceinline__ void finish(const RingCursor<S::kItemSlots>& before) {
    clear_if_needed(ring);
    issue_values(ring);
    wgmma_wait<0>();
    wgmma_touch(o);
    release_block(ring.slot);
    ring.advance();
    write(before, state);
  }

  __device__ __forceinline__ void write(const RingCursor<S::kItemSlots>& before, const RowState& done) {
    write_rows<kD>(params, shared.work[before.slot].item, first_row, done, o);
    // The first CTA's scheduler fetches items for all.
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive_cluster(cluster_address(&shared.work_empty[before.slot], 0));
  }

  // All blocks but the first: masks at both ends, none between.
  __device__ __forceinline__ void steps() {
    const PrefillItem& now = item();
    const int begin = prefill_blocks(now, S::kN).begin;
    const int last_begin = now.position + now.num_tokens - params.rule.window;  // first key of the last row
    const int all_begin = params.rule.window > 0 && last_begin > 0 ? (last_begin + S::kN - 1) / S::kN : begin;
    int block = prefill_blocks(now, S::kN).end - 2;
    int masked_end = max((now.position + 1) / S::kN, begin);
    while (true) {
      for (; block >= masked_end; --block) step<true>(block);
      if (block < begin) break;
      for (; block >= all_begin; --block) step<false>(block);
      if (block < begin) break;
      masked_end = begin;
    }
    release(&shared.q_empty[q_ring.slot]);
    q_ring.advance();
  }
};

template <int kD, bool kSoftcap>
__device__ __forceinline__ void consume_prefill(PrefillShared<kD>& shared, const PrefillParams& params,
                                                int warpgroup) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  PrefillConsumer<kD, kSoftcap> consumer{shared, params, warpgroup * 64 + thread / 32 * 16 + thread % 32 / 4};
  if (consumer.open_item()) {
    consumer.template start<PrefillShape<kD>::kN>();
    while (true) {
      consumer.steps();
      const auto before = consumer.items;
      consumer.items.advance();
      if (!consumer.open_item()) {
        consumer.finish(before);
        break;
      }
      if (consumer.first_is_half()) {
        consumer.template change_item<64>(before);
      } else {
        consumer.template change_item<PrefillShape<kD>::kN>(before);
      }
    }
  }
}

}  // namespace bifocal::kernels::cuda
