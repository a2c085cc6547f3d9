// Partial states of sequences that several parts share: left in slots by those who have the spans, folded by
// all of them together.
//
// Slots hold marked words: a run leaves them as it found them, unwritten. All CTAs of a unit wait for one
// another's words: they are on the device together, one on an SM.
#pragma once

#include "kernels/cuda/decode_rows.h"
#include "kernels/cuda/decode_shared.h"
#include "kernels/cuda/marked_words.h"

namespace bifocal::kernels::cuda {

// Where a vector of four head dims lies in a slot of this CTA's head, and the state of its packet.
struct PartialAddress {
  float4* o;
  float2* s;
};
template <int kD, int kN>
__device__ __forceinline__ PartialAddress partial_address(const DecodeParams& params, int slot, int vector) {
  constexpr int kVectors = Shape<kD, kN>::kVectors;
  const uint32_t unit = static_cast<uint32_t>(slot * params.num_kv_heads) + blockIdx.x;
  return {params.partial_o + (unit * kVectors + static_cast<uint32_t>(vector)),
          params.partial_s +
              (unit * (kVectors / kPacketVectors) + static_cast<uint32_t>(vector / kPacketVectors))};
}

// Stores the real rows of a state: each packet has a copy of its row's (m, l).
template <int kD, int kN>
__device__ __forceinline__ void store_partial(const DecodeParams& params, int slot,
                                              const OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!owned.owns(i) || owned.row(i) >= params.rows) continue;
    const PartialAddress to = partial_address<kD, kN>(params, slot, owned.index(i));
    const float4& o = owned.o[i];
    store_relaxed(to.o, make_float4(writable(o.x), writable(o.y), writable(o.z), writable(o.w)));
    if (owned.index(i) % kPacketVectors == 0) {
      store_relaxed(to.s, make_float2(writable(owned.s[i].m), writable(owned.s[i].l)));
    }
  }
}

// Takes the state that the part before has left of a sequence. The first of a packet's lanes takes (m, l) for
// all.
template <int kD, int kN>
__device__ __forceinline__ void take_partial(const DecodeParams& params, int slot,
                                             OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    float2 s = owned.s[i].as_float2();
    if (owned.owns(i) && owned.row(i) < params.rows) {
      const PartialAddress from = partial_address<kD, kN>(params, slot, owned.index(i));
      owned.o[i] = load_relaxed(from.o);
      take(from.o, owned.o[i]);
      put_mark_back(from.o);
      if (owned.index(i) % kPacketVectors == 0) {
        s = load_relaxed(from.s);
        take(from.s, s);
        put_mark_back(from.s);
      }
    }
    owned.s[i] = {__shfl_sync(~0U, s.x, 0, kPacketVectors), __shfl_sync(~0U, s.y, 0, kPacketVectors)};
  }
}

// Slots of some vectors in shared memory, in slot order: [slot][vector], a row for O and one for (m, l).
struct Staging {
  float4* memory;
  int log2;  // of the vectors that a row has room for
  __device__ float4* o(int slot, int vector) const { return memory + ((slot * 2) << log2) + vector; }
  __device__ float2* s(int slot, int packet) const {
    return reinterpret_cast<float2*>(memory + ((slot * 2 + 1) << log2)) + packet;
  }
};

// Fetches slots [begin, end) of `count` vectors, some loads under way at once.
template <int kD, int kN>
__device__ __forceinline__ void gather_slots(const DecodeParams& params, const Staging& staging,
                                             int first_slot, int begin, int end, int first_vector,
                                             int count) {
  constexpr int kAhead = 6;
  const int thread = static_cast<int>(threadIdx.x);
  const int vector = thread & ((1 << staging.log2) - 1);
  const int step = Shape<kD, kN>::kMergeThreads >> staging.log2;
  if (vector >= count || (thread >> staging.log2) >= step) return;
  const bool has_state = vector % kPacketVectors == 0;
  for (int slot = begin + (thread >> staging.log2); slot < end; slot += kAhead * step) {
    float4 o[kAhead];
    float2 s[kAhead];
    PartialAddress from[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      from[a] = partial_address<kD, kN>(params, first_slot + slot + a * step, first_vector + vector);
      if (slot + a * step >= end) continue;
      o[a] = load_relaxed(from[a].o);
      if (has_state) s[a] = load_relaxed(from[a].s);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (slot + a * step >= end) break;
      take(from[a].o, o[a]);
      put_mark_back(from[a].o);
      *staging.o(slot + a * step - begin, vector) = o[a];
      if (has_state) {
        take(from[a].s, s[a]);
        put_mark_back(from[a].s);
        *staging.s(slot + a * step - begin, vector / kPacketVectors) = s[a];
      }
    }
  }
}

// Folds slots [0, count) of a staged vector into a state, some at once: those beyond have no weight.
__device__ __forceinline__ void fold_staged(const Staging& staging, int count, int vector, SoftmaxState& s,
                                            float4& o) {
  constexpr int kAtOnce = 4;
  const int packet = vector / kPacketVectors;
  float m = s.m;
  for (int slot = 0; slot < count; slot += kAtOnce) {
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) m = fmaxf(m, staging.s(min(slot + a, count - 1), packet)->x);
  }
  const float weight = move_weight(s.m, m);
  s = {m, s.l * weight};
  o = {o.x * weight, o.y * weight, o.z * weight, o.w * weight};
  for (int slot = 0; slot < count; slot += kAtOnce) {
    float2 from[kAtOnce];
    float4 value[kAtOnce];
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      from[a] = *staging.s(min(slot + a, count - 1), packet);
      value[a] = *staging.o(min(slot + a, count - 1), vector);
    }
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      const float next = move_weight(slot + a < count ? from[a].x : -INFINITY, m);
      s.l = __fmaf_rn(from[a].y, next, s.l);
      accumulate(o, value[a], next);
    }
  }
}

constexpr int kMaxStagingLog2 = 7;

// What this CTA has of a cut sequence's output: as large a share as the run has of the spans.
template <int kD>
__device__ __forceinline__ CutRun cut_run(const DecodeParams& params, const Run& run) {
  const int spans = run.seq.span_end - run.seq.span_begin;
  const int packets = params.rows * (kD / kPacketDims);
  CutRun cut;
  cut.run = run;
  cut.begin = packets * (run.span_begin - run.seq.span_begin) / spans * kPacketVectors;
  cut.end = packets * (run.span_end - run.seq.span_begin) / spans * kPacketVectors;
  cut.num_slots = slots_of_cut_sequence(run.seq, run.seq_cut);
  const int count = max(cut.end - cut.begin, kPacketVectors);
  cut.staging_log2 = min(32 - __clz(count - 1), kMaxStagingLog2);
  return cut;
}

// Folds this CTA's share of a cut sequence over all slots and writes it. By all warps but the producer's,
// when all of the CTA's spans are folded.
template <int kD, int kN>
__device__ __forceinline__ void merge_share(Shared<kD, kN>& shared, const DecodeParams& params,
                                            const CutRun& cut) {
  using S = Shape<kD, kN>;
  constexpr int kStagingLog2 = 13;  // float4s: the tiles' memory, by now unused
  static_assert(sizeof(shared.tiles) == size_t{16} << kStagingLog2);
  const int thread = static_cast<int>(threadIdx.x);
  const Staging staging{reinterpret_cast<float4*>(shared.tiles), cut.staging_log2};
  const int max_staged = 1 << (kStagingLog2 - 1 - staging.log2);
  for (int first = cut.begin; first < cut.end; first += 1 << staging.log2) {
    const int count = min(cut.end - first, 1 << staging.log2);
    const bool mine = thread < count;
    OutputVector to{};
    if (mine) to = output_vector<kD>(params, cut.run, first + thread);
    SoftmaxState s{-INFINITY, 0.0F};
    float4 o = {0.0F, 0.0F, 0.0F, 0.0F};
    for (int slot = 0; slot < cut.num_slots; slot += max_staged) {
      const int slot_end = min(slot + max_staged, cut.num_slots);
      gather_slots<kD, kN>(params, staging, cut.run.slot, slot, slot_end, first, count);
      meet(kMergeBarrier, S::kMergeThreads);
      if (mine) fold_staged(staging, slot_end - slot, thread, s, o);
      meet(kMergeBarrier, S::kMergeThreads);  // what is staged may be overwritten
    }
    if (mine) store_output(to, s, o);
  }
}

}  // namespace bifocal::kernels::cuda
