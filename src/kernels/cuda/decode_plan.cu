// The plan kernel: one CTA reads the step's lengths and rewrites every record that the decode kernel reads.
#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
static_assert(kMaxDecodeParts < kThreads, "one thread for each boundary, both ends included");

struct PlanParams {
  const int32_t* kv_len;
  const int32_t* q_begin;
  const int32_t* page_table;
  int64_t page_table_stride;
  DecodePart* parts;
  DecodeSequence* seqs;
  int32_t* counters;
  int num_seqs;
  int num_parts;
  int num_counters;
  int page_tiles_log2;
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
#pragma unroll
  for (int w = kWarps - 2; w >= 0; --w) {
    if (w < warp) value = op(totals[w], value);
  }
  return value;
}

// Lane i writes word i of the record.
__device__ void write_part(const DecodePart& part, const TileRange& pages, const PlanParams& params,
                           int index) {
  constexpr int kPageWord = static_cast<int>(offsetof(DecodePart, pages) / sizeof(int32_t));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int page = lane - kPageWord;
  int word = 0;
  if (page >= 0) {
    if (page < pages.end - pages.begin) {
      word = params.page_table[part.seq * params.page_table_stride + pages.begin + page];
    }
  } else {
    const auto* words = reinterpret_cast<const int32_t*>(&part);
#pragma unroll
    for (int i = 0; i < kPageWord; ++i) word = i == lane ? words[i] : word;
  }
  reinterpret_cast<int32_t*>(&params.parts[index])[lane] = word;
}

__global__ void __launch_bounds__(kThreads) plan_decode_kernel(const __grid_constant__ PlanParams params) {
  __shared__ DecodeSequence seqs[kMaxDecodeSeqs];
  __shared__ int end_cost[kMaxDecodeSeqs];  // of all sequences up to and including this one
  __shared__ DecodeCut cuts[kThreads];
  __shared__ DecodeBoundary boundaries[kThreads];
  __shared__ int cost_totals[kWarps];
  __shared__ Running running_totals[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  // A thread's sequences follow one another, so that one scan over threads gives every running total.
  const int per_thread = (params.num_seqs + kThreads - 1) / kThreads;
  const int first_index = thread * per_thread;
  const int end_index = min(first_index + per_thread, params.num_seqs);
  grid_dependency_wait();
  launch_dependents();

  int cost = 0;
  for (int index = first_index; index < end_index; ++index) {
    const int q_row = params.q_begin != nullptr ? params.q_begin[index] : index * params.q_len;
    const DecodeSequence seq =
        decode_sequence(params.spans, params.kv_len[index], params.q_len, params.window, q_row);
    seqs[index] = seq;
    params.seqs[index] = seq;
    cost += sequence_cost(seq);
    end_cost[index] = cost;
  }
  const int inclusive = block_scan(
      cost, cost_totals, [](int v, int step) { return __shfl_up_sync(~0U, v, step); },
      [](int a, int b) { return a + b; });
  for (int index = first_index; index < end_index; ++index) end_cost[index] += inclusive - cost;
  __syncthreads();

  const int total = end_cost[params.num_seqs - 1];
  const int snap = total / (params.num_parts * kSnapDivisor);
  DecodeCut cut{params.num_seqs, 0};
  if (thread < params.num_parts) {
    const int target = part_begin(total, thread, params.num_parts);
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
    cut = cut_within(seqs, params.num_seqs, low, target - (low > 0 ? end_cost[low - 1] : 0), snap);
  }
  cuts[thread] = cut;
  __syncthreads();

  const bool inside = is_inside(cut, seqs, params.num_seqs);
  const DecodeCut before = thread > 0 ? cuts[thread - 1] : DecodeCut{-1, 0};
  const bool first = inside && !(before.seq == cut.seq && is_inside(before, seqs, params.num_seqs));
  const int slots = first ? slots_of_cut_sequence(seqs[cut.seq], cut.span) : 0;
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
    boundary.seq_cut = cuts[running.first].span;
    boundary.slot = running.slots - slots_of_cut_sequence(seqs[cut.seq], boundary.seq_cut);
    boundary.counter = running.first;
  }
  boundaries[thread] = boundary;
  __syncthreads();

  // Records leave in words, one warp's lanes side by side; page ids are looked up on the way.
  for (int part = thread / 32; part < params.num_parts; part += kWarps) {
    const DecodePart made = make_part(boundaries[part], boundaries[part + 1], seqs);
    const TileRange pages = inline_pages(made, params.page_tiles_log2);
    write_part(made, pages, params, part);
  }
  for (int i = thread; i < params.num_counters; i += kThreads) params.counters[i] = 0;
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
  params.num_counters = buffers.num_parts * desc.num_kv_heads;
  params.page_table = batch.page_table;
  params.page_table_stride = batch.page_table_stride;
  params.page_tiles_log2 = page_tiles_log2(desc);
  params.q_len = desc.q_len;
  params.window = desc.window;
  params.spans = desc.spans;
  BIFOCAL_RETURN_IF_ERROR(
      launch_kernel(plan_decode_kernel, 1, kThreads, 0, launch, "the decode plan kernel", params));
  return plan;
}

}  // namespace bifocal::kernels::cuda
