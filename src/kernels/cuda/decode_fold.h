// The fold warps: they turn the consumers' states into spans, spans into units, units into output rows, while
// the consumers go on. Everything is folded in index order, so that no bit depends on who did what when.
#pragma once

#include "kernels/cuda/decode_partials.h"
#include "kernels/cuda/decode_rows.h"
#include "kernels/cuda/decode_shared.h"

namespace bifocal::kernels::cuda {

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

// Writes the rows of a unit that is this part's alone.
template <int kD, int kN>
__device__ __forceinline__ void store_unit(const DecodeParams& params, const Run& run,
                                           const OwnedVectors<kD, kN>& owned) {
#pragma unroll
  for (int i = 0; i < Shape<kD, kN>::kVectorsPerThread; ++i) {
    if (!owned.owns(i) || owned.row(i) >= params.rows) continue;
    store_output(output_vector<kD>(params, run, owned.index(i)), owned.s[i], owned.o[i]);
  }
}

// The fold warps' whole work.
template <int kD, int kN>
__device__ __forceinline__ void fold_units(Shared<kD, kN>& shared, const DecodeParams& params, int num_seqs) {
  using S = Shape<kD, kN>;
  const bool elected = threadIdx.x == kConsumerWarps * 32;  // one thread of all
  RingCursor<kRunSlots> runs;
  RingCursor<S::kFoldSlots> spans;
  int num_cut = 0;  // at most two: the first run and the last
  for (int i = 0; i < num_seqs; ++i) {
    mbarrier_wait(&shared.run_full[runs.slot], runs.phase);
    const Run run = shared.runs[runs.slot];
    mbarrier_arrive(&shared.run_empty[runs.slot]);
    runs.advance();

    const bool continued = continues_sequences(kD, S::kRows) && run.slot >= 0 && run.seq_cut == kContinued;
    const bool cut = run.slot >= 0 && !continued;
    const bool prefix = run.span_begin == run.seq.span_begin;
    if (cut && elected) shared.cut_runs[num_cut] = cut_run<kD>(params, run);
    num_cut += cut ? 1 : 0;
    OwnedVectors<kD, kN> total;
    total.clear();
    if (continued && !prefix) take_partial<kD, kN>(params, run.slot, total);
    for (int span = run.span_begin; span < run.span_end; ++span) {
      mbarrier_wait(&shared.span_full[spans.slot], spans.phase);
      const OwnedVectors<kD, kN> closed = fold_warps<kD, kN>(shared.spans[spans.slot]);
      mbarrier_arrive(&shared.span_empty[spans.slot]);
      spans.advance();
      if (cut && !prefix) {
        store_partial<kD, kN>(params, run.slot + 1 + span - run.seq_cut, closed);
      } else {
        total.fold(closed);
      }
    }
    if ((cut || continued) && prefix) {
      store_partial<kD, kN>(params, run.slot, total);
    } else if (!cut) {
      store_unit<kD, kN>(params, run, total);
    }
  }
}

}  // namespace bifocal::kernels::cuda
