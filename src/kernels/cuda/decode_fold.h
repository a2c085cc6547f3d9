// The fold warps: they turn the consumers' states into spans, spans into units, units into output rows, while
// the consumers go on. Everything is folded in index order, so that no bit depends on who did what when.
#pragma once

#include "kernels/cuda/decode_shared.h"

namespace bifocal::kernels::cuda {

constexpr uint32_t kFoldBarrier = 1;

// What one thread owns of a unit's result: vectors of four head dims of a row.
template <int kD, int kN>
struct OwnedVectors {
  using S = Shape<kD, kN>;
  float4 o[S::kVectorsPerThread];
  SoftmaxState s[S::kVectorsPerThread];

  // Index of the thread's i-th vector among all; beyond kVectors there is none.
  __device__ static int index(int i) {
    return static_cast<int>(threadIdx.x) - kConsumerWarps * 32 + i * S::kFoldThreads;
  }
  __device__ static bool owns(int i) { return S::kVectors % S::kFoldThreads == 0 || index(i) < S::kVectors; }
  __device__ static int row(int i) { return index(i) / (kD / 4); }
  __device__ static int dim(int i) { return index(i) % (kD / 4) * 4; }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < S::kVectorsPerThread; ++i) {
      o[i] = {0.0F, 0.0F, 0.0F, 0.0F};
      s[i] = {-INFINITY, 0.0F};
    }
  }
  __device__ void fold(const OwnedVectors& next) {
#pragma unroll
    for (int i = 0; i < S::kVectorsPerThread; ++i) fold_state(s[i], o[i], next.s[i], next.o[i]);
  }
};

// The warps' states of a span, in warp order.
template <int kD, int kN>
__device__ __forceinline__ OwnedVectors<kD, kN> fold_warps(const SpanStates<kD, kN>& states) {
  using S = Shape<kD, kN>;
  OwnedVectors<kD, kN> span;
  span.clear();
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!span.owns(i)) continue;
    const int row = span.row(i);
    float m = -INFINITY;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) m = fmaxf(m, states.s[w][row].m);
    float l = 0.0F;
    float4 o = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      const SoftmaxState from = states.s[w][row];
      const float weight = move_weight(from.m, m);
      l = __fmaf_rn(from.l, weight, l);
      accumulate(o, *reinterpret_cast<const float4*>(&states.o[w][row][span.dim(i)]), weight);
    }
    span.s[i] = {m, l};
    span.o[i] = o;
  }
  return span;
}

// First row of a slot of this CTA's head.
template <int kRows>
__device__ __forceinline__ int64_t partial_row(const DecodeParams& params, int slot) {
  return (int64_t{slot} * params.num_kv_heads + blockIdx.x) * kRows;
}

template <int kD, int kN>
__device__ __forceinline__ void store_partial(const DecodeParams& params, int slot,
                                              const OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!owned.owns(i)) continue;
    const int64_t row = partial_row<S::kRows>(params, slot) + owned.row(i);
    __stcg(reinterpret_cast<float4*>(&params.partial_o[row * kD + owned.dim(i)]), owned.o[i]);
    if (owned.dim(i) == 0) __stcg(reinterpret_cast<float2*>(&params.partial_s[row]), owned.s[i].as_float2());
  }
}

// Where row `row` of a unit goes.
struct OutputRow {
  int64_t token;
  int head;
};
__device__ __forceinline__ OutputRow output_row(const DecodeParams& params, const Run& run, int row) {
  OutputRow out{run.seq.q_row, static_cast<int>(blockIdx.x) * params.group};
  for (; row >= params.group; row -= params.group) ++out.token;
  out.head += row;
  return out;
}

__device__ __forceinline__ FinalWeights finish_row(const DecodeParams& params, const OutputRow& row,
                                                   const SoftmaxState& state, bool first_dim) {
  const FinalWeights final =
      finish_state(state, params.sinks != nullptr ? params.sinks[row.head] : -INFINITY);
  if (first_dim && params.lse != nullptr) params.lse[row.token * params.num_heads + row.head] = final.lse;
  return final;
}

template <int kWidth>
__device__ __forceinline__ void load_elements(const float* from, float (&to)[kWidth]) {
  if constexpr (kWidth == 4) {
    const float4 v = __ldcg(reinterpret_cast<const float4*>(from));
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
    to[3] = v.w;
  } else if constexpr (kWidth == 2) {
    const float2 v = __ldcg(reinterpret_cast<const float2*>(from));
    to[0] = v.x;
    to[1] = v.y;
  } else {
    to[0] = __ldcg(from);
  }
}

__device__ __forceinline__ void store_vector(uint16_t* out, const float4& o, float weight) {
  *reinterpret_cast<uint2*>(out) = {pack_bf16(o.x * weight, o.y * weight),
                                    pack_bf16(o.z * weight, o.w * weight)};
}

// Normalises, adds the sink, writes the rows of a unit that is this part's alone.
template <int kD, int kN>
__device__ __forceinline__ void store_unit(const DecodeParams& params, const Run& run,
                                           const OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!owned.owns(i) || owned.row(i) >= params.q_len * params.group) continue;
    const OutputRow row = output_row(params, run, owned.row(i));
    const FinalWeights final = finish_row(params, row, owned.s[i], owned.dim(i) == 0);
    store_vector(&params.out[row.token * params.out_stride + row.head * kD + owned.dim(i)], owned.o[i],
                 final.weight);
  }
}

// Where a cut unit's runs meet: a counter of finished spans. It only grows, from 0 when the plan is made, by
// the unit's spans in every layer; so each run knows from any value before its own spans are counted what
// full means.
struct Meeting {
  int* finished;
  int full;  // known to the first fold thread
};

__device__ __forceinline__ Meeting begin_meeting(const DecodeParams& params, const Run& run, bool elected) {
  int* finished = &params.counters[run.counter * params.num_kv_heads + static_cast<int>(blockIdx.x)];
  if (!elected) return {finished, 0};
  const int spans = run.seq.span_end - run.seq.span_begin;
  const int now = load_acquire(finished);
  return {finished, now - now % spans + spans};
}

// This run's spans are stored.
template <int kD, int kN>
__device__ __forceinline__ void announce(const Meeting& meeting, const Run& run, bool elected) {
  named_barrier_sync(kFoldBarrier, Shape<kD, kN>::kFoldThreads);
  if (elected) add_release(meeting.finished, run.span_end - run.span_begin);
}

// Folds elements [begin, end) of a cut unit's rows over all its slots, kWidth elements to a thread. The
// arithmetic of an element is the same for every width.
template <int kD, int kN, int kWidth>
__device__ __forceinline__ void merge_elements(const DecodeParams& params, const Run& run, int begin,
                                               int end) {
  using S = Shape<kD, kN>;
  constexpr int kAhead = kWidth == 4 ? 6 : 8;  // slots read at once
  const int num_slots = slots_of_cut_sequence(run.seq, run.seq_cut);
  const int slot_rows = params.num_kv_heads * S::kRows;
  const int thread = static_cast<int>(threadIdx.x) - kConsumerWarps * 32;
  for (int i = begin + thread * kWidth; i < end; i += S::kFoldThreads * kWidth) {
    const int64_t first_row = partial_row<S::kRows>(params, run.slot) + i / kD;
    const float* o = params.partial_o + first_row * kD + i % kD;
    const auto* s = reinterpret_cast<const float2*>(params.partial_s + first_row);
    SoftmaxState total{-INFINITY, 0.0F};
    float sum[kWidth] = {};
    for (int slot = 0; slot < num_slots; slot += kAhead) {
      float2 state[kAhead];
      float value[kAhead][kWidth];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int64_t row = int64_t{min(slot + a, num_slots - 1)} * slot_rows;
        state[a] = __ldcg(s + row);
        if (slot + a >= num_slots) state[a].x = -INFINITY;  // weight 0
        load_elements<kWidth>(o + row * kD, value[a]);
      }
      float m = total.m;
#pragma unroll
      for (int a = 0; a < kAhead; ++a) m = fmaxf(m, state[a].x);
      const float weight = move_weight(total.m, m);
      total = {m, total.l * weight};
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum[e] *= weight;
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const float next = move_weight(state[a].x, m);
        total.l = __fmaf_rn(state[a].y, next, total.l);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) sum[e] = __fmaf_rn(value[a][e], next, sum[e]);
      }
    }
    const OutputRow row = output_row(params, run, i / kD);
    const FinalWeights final = finish_row(params, row, total, i % kD == 0);
    uint16_t* out = &params.out[row.token * params.out_stride + row.head * kD + i % kD];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) out[e] = static_cast<uint16_t>(pack_bf16(sum[e] * final.weight, 0.0F));
  }
}

// Folds a slice of a cut unit, as large a share of the output as this run has of the spans, once all partial
// states are there. All CTAs of a unit do this at the end of their parts; they are on the device together,
// one on an SM.
template <int kD, int kN>
__device__ __forceinline__ void merge_slice(const DecodeParams& params, const Run& run,
                                            const Meeting& meeting, bool elected) {
  using S = Shape<kD, kN>;
  const int spans = run.seq.span_end - run.seq.span_begin;
  while (elected && load_acquire(meeting.finished) < meeting.full) {
  }
  named_barrier_sync(kFoldBarrier, S::kFoldThreads);
  const int vectors = params.q_len * params.group * (kD / 4);
  const int begin = vectors * (run.span_begin - run.seq.span_begin) / spans * 4;
  const int end = vectors * (run.span_end - run.seq.span_begin) / spans * 4;
  if (end - begin > 2 * S::kFoldThreads) {
    merge_elements<kD, kN, 4>(params, run, begin, end);
  } else if (end - begin > S::kFoldThreads) {
    merge_elements<kD, kN, 2>(params, run, begin, end);
  } else {
    merge_elements<kD, kN, 1>(params, run, begin, end);
  }
}

// The fold warps' whole work.
template <int kD, int kN>
__device__ __forceinline__ void fold_units(Shared<kD, kN>& shared, const DecodeParams& params, int num_seqs) {
  using S = Shape<kD, kN>;
  const bool lane_elected = threadIdx.x % 32 == 0;
  const bool elected = threadIdx.x == kConsumerWarps * 32;
  RingCursor<kRunSlots> runs;
  RingCursor<S::kFoldSlots> spans;
  bool first_cut = false;
  bool last_cut = false;
  Meeting first_meeting{};
  Meeting last_meeting{};
  for (int i = 0; i < num_seqs; ++i) {
    mbarrier_wait(&shared.run_full[runs.slot], runs.phase);
    const Run run = shared.runs[runs.slot];
    __syncwarp();
    if (lane_elected) mbarrier_arrive(&shared.run_empty[runs.slot]);
    runs.advance();

    const bool cut = run.slot >= 0;
    const bool prefix = run.span_begin == run.seq.span_begin;
    Meeting meeting{};
    if (cut) meeting = begin_meeting(params, run, elected);
    OwnedVectors<kD, kN> total;
    total.clear();
    for (int span = run.span_begin; span < run.span_end; ++span) {
      mbarrier_wait(&shared.span_full[spans.slot], spans.phase);
      const OwnedVectors<kD, kN> closed = fold_warps<kD, kN>(shared.spans[spans.slot]);
      __syncwarp();
      if (lane_elected) mbarrier_arrive(&shared.span_empty[spans.slot]);
      spans.advance();
      if (cut && !prefix) {
        store_partial<kD, kN>(params, run.slot + 1 + span - run.seq_cut, closed);
      } else {
        total.fold(closed);
      }
    }
    if (!cut) {
      store_unit<kD, kN>(params, run, total);
      continue;
    }
    if (prefix) store_partial<kD, kN>(params, run.slot, total);
    if (elected) shared.cut_runs[i == 0 ? 0 : 1] = run;
    announce<kD, kN>(meeting, run, elected);
    if (i == 0) {
      first_cut = true;
      first_meeting = meeting;
    } else {
      last_cut = true;
      last_meeting = meeting;
    }
  }
  if (first_cut) merge_slice<kD, kN>(params, shared.cut_runs[0], first_meeting, elected);
  if (last_cut) merge_slice<kD, kN>(params, shared.cut_runs[1], last_meeting, elected);
}

}  // namespace bifocal::kernels::cuda
