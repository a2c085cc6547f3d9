// The plan kernel: one CTA reads the step's lengths and rewrites every record that the decode kernel reads.
#include <cuda_runtime.h>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kSeqsPerThread = kMaxDecodeSeqs / kThreads;
static_assert(kMaxDecodeParts < kThreads, "one thread for each boundary, both ends included");

struct PlanParams {
  const int32_t* kv_len;
  const int32_t* q_begin;
  DecodePart* parts;
  DecodeSequence* seqs;
  int32_t* counters;
  int num_seqs;
  int num_parts;
  int num_kv_heads;
  int q_len;
  int window;
  SpanRule spans;
};

// Running totals over the boundaries: slots so far, and the last boundary that was the first cut of a unit.
struct Running {
  int slots;
  int first;
};

__device__ Running combine(Running before, Running now) {
  return {before.slots + now.slots, max(before.first, now.first)};
}

// Inclusive scan over the block's threads in order. `totals` [kWarps] is scratch.
template <class T, class Shuffle, class Combine>
__device__ T block_scan(T value, T* totals, Shuffle shuffle_up, Combine op) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T before = shuffle_up(value, step);
    if (lane >= step) value = op(before, value);
  }
  if (lane == 31) totals[warp] = value;
  __syncthreads();
  for (int w = warp - 1; w >= 0; --w) value = op(totals[w], value);
  return value;
}

__global__ void __launch_bounds__(kThreads) plan_decode_kernel(const PlanParams params) {
  __shared__ DecodeSequence seqs[kMaxDecodeSeqs];
  __shared__ int end_cost[kMaxDecodeSeqs];  // cost of all sequences up to and including this one
  __shared__ DecodeCut cuts[kThreads];
  __shared__ DecodeBoundary boundaries[kThreads];
  __shared__ int cost_totals[kWarps];
  __shared__ Running running_totals[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  grid_dependency_wait();
  launch_dependents();

  int cost = 0;
#pragma unroll
  for (int i = 0; i < kSeqsPerThread; ++i) {
    const int index = thread * kSeqsPerThread + i;
    if (index >= params.num_seqs) break;
    const int q_row = params.q_begin != nullptr ? params.q_begin[index] : index * params.q_len;
    const DecodeSequence seq =
        decode_sequence(params.spans, params.kv_len[index], params.q_len, params.window, q_row);
    seqs[index] = seq;
    params.seqs[index] = seq;
    cost += unit_cost(seq) * params.num_kv_heads;
    end_cost[index] = cost;
  }
  const int inclusive = block_scan(
      cost, cost_totals, [](int v, int step) { return __shfl_up_sync(~0U, v, step); },
      [](int a, int b) { return a + b; });
#pragma unroll
  for (int i = 0; i < kSeqsPerThread; ++i) {
    const int index = thread * kSeqsPerThread + i;
    if (index < params.num_seqs) end_cost[index] += inclusive - cost;
  }
  __syncthreads();

  const int total = end_cost[params.num_seqs - 1];
  const int snap = total / (params.num_parts * kSnapDivisor);
  DecodeCut cut{params.num_seqs, 0, 0};
  if (thread < params.num_parts) {
    const int target = static_cast<int>(static_cast<int64_t>(total) * thread / params.num_parts);
    int low = 0;
    int high = params.num_seqs - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (end_cost[middle] > target) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int begin_cost = low > 0 ? end_cost[low - 1] : 0;
    cut = cut_within(seqs, params.num_seqs, low, params.num_kv_heads, target - begin_cost, snap);
  }
  cuts[thread] = cut;
  __syncthreads();

  const bool inside = is_inside(cut, seqs, params.num_seqs);
  const DecodeCut before = thread > 0 ? cuts[thread - 1] : DecodeCut{};
  const bool first = inside && !(thread > 0 && before.seq == cut.seq && before.head == cut.head &&
                                 is_inside(before, seqs, params.num_seqs));
  const int slots = first ? slots_of_cut_unit(seqs[cut.seq], cut.span) : 0;
  const Running running = block_scan(
      Running{slots, first ? thread : 0}, running_totals,
      [](Running v, int step) {
        return Running{__shfl_up_sync(~0U, v.slots, step), __shfl_up_sync(~0U, v.first, step)};
      },
      combine);
  DecodeBoundary boundary;
  boundary.cut = cut;
  boundary.inside = inside;
  if (inside) {
    boundary.unit_cut = cuts[running.first].span;
    boundary.slot = running.slots - slots_of_cut_unit(seqs[cut.seq], boundary.unit_cut);
    boundary.counter = running.first;
  }
  boundaries[thread] = boundary;
  __syncthreads();

  if (thread < params.num_parts) {
    params.parts[thread] = make_part(boundaries[thread], boundaries[thread + 1], seqs, params.num_kv_heads);
    params.counters[thread] = 0;
  }
}

}  // namespace

Expected<DecodePlan> plan_decode(const DecodeDesc& desc, const DecodeBatch& batch, DecodeBuffers& buffers,
                                 const LaunchOptions& launch) {
  BIFOCAL_RETURN_IF_ERROR(check_batch(desc, batch, buffers));
  DecodePlan plan{desc, batch, &buffers};
  if (batch.num_seqs == 0) return plan;
  PlanParams params{};
  params.kv_len = batch.kv_len;
  params.q_begin = batch.q_begin;
  params.parts = buffers.parts.as<DecodePart>();
  params.seqs = buffers.seqs.as<DecodeSequence>();
  params.counters = buffers.counters.as<int32_t>();
  params.num_seqs = batch.num_seqs;
  params.num_parts = buffers.num_parts;
  params.num_kv_heads = desc.num_kv_heads;
  params.q_len = desc.q_len;
  params.window = desc.window;
  params.spans = desc.spans;
  BIFOCAL_RETURN_IF_ERROR(
      launch_kernel(plan_decode_kernel, 1, kThreads, 0, launch, "the decode plan kernel", params));
  return plan;
}

}  // namespace bifocal::kernels::cuda
