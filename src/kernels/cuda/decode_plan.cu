// The plan kernel: one CTA reads the step's lengths and rewrites every record that the decode kernel reads.
#include <cuda_runtime.h>

#include <climits>
#include <cstddef>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
static_assert(kMaxDecodeSeqs <= 32 * 32, "find_sequence looks twice");

struct PlanParams {
  const int32_t* kv_len;
  const int32_t* q_begin;
  const int32_t* table_row;
  const int32_t* page_table;
  int64_t page_table_stride;
  DecodePart* parts;
  DecodeSequence* seqs;
  int num_seqs;
  int first_row;
  int num_parts;
  int max_slots;  // of a sequence
  bool continues;
  int page_tiles_log2;
  int q_len;
  int window;
  SpanRule spans;
};

struct Shared {
  DecodeSequence seqs[kMaxDecodeSeqs];
  int end_cost[kMaxDecodeSeqs];  // of all sequences up to and including this one
  int warp_cost[kWarps];
  int warp_span[kWarps];  // shortest, in tiles
};

// The sequence in which `position` of the line lies; a warp looks together.
__device__ int find_sequence(const int* end_cost, int num_seqs, int position) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int stride = (num_seqs + 31) / 32;
  const auto first_beyond = [&](int index) {
    const bool beyond = end_cost[min(index, num_seqs - 1)] > position;
    return __ffs(static_cast<int>(__ballot_sync(~0U, beyond))) - 1;
  };
  const int chunk = first_beyond(lane * stride + stride - 1) * stride;
  return chunk + first_beyond(chunk + lane);
}

// Boundary `index`, the start of that part or the end of the one before; a warp looks together.
__device__ DecodeBoundary find_boundary(const Shared& shared, const PlanParams& params, int total,
                                        int tiles_of_part, int index) {
  const int position = tiles_of_part * index;
  DecodeBoundary boundary;
  boundary.cut = {params.num_seqs, 0};
  if (index >= params.num_parts || position >= total) return boundary;
  const int seq = find_sequence(shared.end_cost, params.num_seqs, position);
  const int before = seq > 0 ? shared.end_cost[seq - 1] : 0;
  return boundary_within(shared.seqs[seq], seq, before, position, tiles_of_part, params.max_slots,
                         params.continues);
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
      word = params.page_table[part.start_seq.table_row * params.page_table_stride + pages.begin + page];
    }
  } else {
    const auto* words = reinterpret_cast<const int32_t*>(&part);
#pragma unroll
    for (int i = 0; i < kPageWord; ++i) word = i == lane ? words[i] : word;
  }
  reinterpret_cast<int32_t*>(&params.parts[index])[lane] = word;
}

__global__ void __launch_bounds__(kThreads) plan_decode_kernel(const __grid_constant__ PlanParams params) {
  __shared__ Shared shared;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32;
  // A thread's sequences follow one another, so that one scan over threads gives every running total.
  const int per_thread = (params.num_seqs + kThreads - 1) / kThreads;
  const int first_index = thread * per_thread;
  const int end_index = min(first_index + per_thread, params.num_seqs);
  grid_dependency_wait();
  launch_dependents();

  int cost = 0;
  int shortest_span = INT_MAX;
  for (int index = first_index; index < end_index; ++index) {
    const int q_row =
        params.q_begin != nullptr ? params.q_begin[index] : params.first_row + index * params.q_len;
    DecodeSequence seq =
        decode_sequence(params.spans, params.kv_len[index], params.q_len, params.window, q_row);
    seq.table_row = params.table_row != nullptr ? params.table_row[index] : index;
    shared.seqs[index] = seq;
    params.seqs[index] = seq;
    cost += sequence_cost(seq);
    shortest_span = min(shortest_span, tiles_per_span(seq));
  }
  int end_cost = cost;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(~0U, end_cost, step);
    if (lane >= step) end_cost += before;
  }
  if (lane == 31) shared.warp_cost[warp] = end_cost;
  shortest_span = __reduce_min_sync(~0U, shortest_span);
  if (lane == 0) shared.warp_span[warp] = shortest_span;
  __syncthreads();
  int total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) end_cost += total;
    total += shared.warp_cost[w];
    shortest_span = min(shortest_span, shared.warp_span[w]);
  }
  for (int index = end_index - 1; index >= first_index; --index) {
    shared.end_cost[index] = end_cost;
    end_cost -= sequence_cost(shared.seqs[index]);
  }
  __syncthreads();

  // Records leave in words, one warp's lanes side by side; page ids are looked up on the way.
  const int tiles_of_part = part_tiles(total, shortest_span, params.num_parts);
  for (int part = warp; part < params.num_parts; part += kWarps) {
    const DecodePart made =
        make_part(find_boundary(shared, params, total, tiles_of_part, part),
                  find_boundary(shared, params, total, tiles_of_part, part + 1), shared.seqs);
    write_part(made, inline_pages(made, params.page_tiles_log2), params, part);
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
  params.table_row = batch.table_row;
  params.parts = parts_of_round(buffers, batch.round);
  params.seqs = seqs_of_round(buffers, batch.round);
  params.num_seqs = batch.num_seqs;
  params.first_row = batch.first_row;
  params.num_parts = buffers.num_parts;
  params.max_slots = buffers.max_slots_of_seq;
  params.continues = continues_sequences(desc.head_dim, padded_rows(desc));
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
