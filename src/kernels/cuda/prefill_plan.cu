// The plan kernel: every CTA orders the step's sequences and writes its share of the records.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kCtas = 64;

struct PlanParams {
  const int32_t* q_begin;
  const int32_t* q_len;
  const int32_t* kv_len;
  PrefillRecord* records;
  PrefillQueue* queue;
  int num_seqs;
  int max_items;
  int share_log2;  // of threads that order one sequence
  PrefillRule rule;
};

struct Sequence {
  int32_t q_begin;
  int32_t q_len;
  int32_t kv_len;
  int32_t tiles;
  int32_t section_heads;
};

// What a sequence is ordered by, and what it adds to the places behind it: 1 and, kMaxPrefillSeqs times, its
// items.
struct Key {
  uint32_t order;
  uint32_t weight;
};
static_assert(int64_t{kMaxPrefillItems} * kMaxPrefillSeqs <= int64_t{1} << 32);

// A sequence in the order in which they are taken.
struct Place {
  int32_t end_item;  // of all sequences up to and including this one
  int32_t items;
  int32_t seq;
};

// All places at once: how many sequences stand before a sequence, how many items they have. As many threads
// as there are for each sequence share its comparisons, in neighbouring lanes.
__device__ __forceinline__ void order_sequences(const PlanParams& params, const Key* keys, Place* places) {
  const int num_seqs = params.num_seqs;
  const int share = 1 << params.share_log2;
  const int thread = static_cast<int>(threadIdx.x);
  const int part = thread & (share - 1);
  const auto* pairs = reinterpret_cast<const uint4*>(keys);
  for (int first = 0; first < num_seqs; first += kThreads >> params.share_log2) {
    const int seq = first + (thread >> params.share_log2);
    const Key mine = keys[min(seq, num_seqs - 1)];
    uint32_t before = 0;
#pragma unroll 8
    for (int i = part; i < (num_seqs + 1) / 2; i += share) {
      const uint4 pair = pairs[i];
      if (pair.x > mine.order) before += pair.y;
      if (pair.z > mine.order) before += pair.w;
    }
    for (int lanes = share / 2; lanes > 0; lanes /= 2) before += __shfl_xor_sync(~0U, before, lanes);
    if (part == 0 && seq < num_seqs) {
      const auto items = static_cast<int>(mine.weight / kMaxPrefillSeqs);
      places[before % kMaxPrefillSeqs] = {static_cast<int>(before / kMaxPrefillSeqs) + items, items, seq};
    }
  }
}

// The first place whose items end behind `item`, searched by a whole warp: among the ends of 32 groups, then
// in one group.
__device__ __forceinline__ int place_of(const Place* places, int num_seqs, int item) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = (num_seqs + 31) / 32;
  const auto first = [&](int place) {
    const bool behind = places[min(place, num_seqs - 1)].end_item > item;
    return __ffs(static_cast<int>(__ballot_sync(~0U, behind))) - 1;
  };
  const int begin = first((lane + 1) * group - 1) * group;
  return begin + first(begin + lane);
}
static_assert(kMaxPrefillSeqs <= 32 * 32);

__global__ void __launch_bounds__(kThreads) plan_prefill_kernel(const __grid_constant__ PlanParams params) {
  __shared__ Sequence seqs[kMaxPrefillSeqs];
  __shared__ alignas(16) Key keys[kMaxPrefillSeqs];
  __shared__ Place places[kMaxPrefillSeqs];
  const int thread = static_cast<int>(threadIdx.x);
  const int num_seqs = params.num_seqs;
  const PrefillRule& rule = params.rule;
  grid_dependency_wait();
  launch_dependents();
  for (int i = thread; i < num_seqs + num_seqs % 2; i += kThreads) {
    keys[i] = {0, 0};
    if (i == num_seqs) continue;
    const int q_len = params.q_len[i];
    const int kv_len = params.kv_len[i];
    seqs[i] = {params.q_begin[i], q_len, kv_len, prefill_tiles(rule, q_len),
               prefill_section_heads(rule, kv_len)};
    keys[i] = {prefill_order(kv_len, i),
               static_cast<uint32_t>(prefill_items(rule, q_len)) * kMaxPrefillSeqs + 1};
  }
  __syncthreads();
  order_sequences(params, keys, places);
  __syncthreads();

  // Neighbouring warps' records are written by different CTAs: one SM would take longer to write them.
  const int total = min(places[num_seqs - 1].end_item, params.max_items);
  const int lane = thread % 32;
  for (int begin = (thread / 32 * kCtas + static_cast<int>(blockIdx.x)) * 32; begin < total;
       begin += kCtas * kThreads) {
    const int index = begin + lane;
    int place_index = place_of(places, num_seqs, begin);
    if (index >= total) continue;
    while (places[place_index].end_item <= index) ++place_index;
    const Place place = places[place_index];
    const Sequence seq = seqs[place.seq];
    const int first_item = place.end_item - place.items;
    params.records[index] = prefill_record(rule, place.seq, seq.q_begin, seq.q_len, seq.kv_len, seq.tiles,
                                           seq.section_heads, index - first_item);
  }
  if (blockIdx.x == 0 && thread == 0) *params.queue = {total, 0};
}

}  // namespace

Expected<PrefillPlan> plan_prefill(const PrefillDesc& desc, const PrefillBatch& batch,
                                   PrefillBuffers& buffers, const LaunchOptions& launch) {
  if (batch.num_seqs < 0 || batch.num_seqs > buffers.limits.max_seqs) {
    return internal_error("prefill plan: " + std::to_string(batch.num_seqs) + " sequences, but buffers for " +
                          std::to_string(buffers.limits.max_seqs));
  }
  PrefillPlan plan{desc, batch, &buffers};
  if (batch.num_seqs == 0) return plan;
  PlanParams params{};
  params.q_begin = batch.q_begin;
  params.q_len = batch.q_len;
  params.kv_len = batch.kv_len;
  params.records = buffers.records.as<PrefillRecord>();
  params.queue = buffers.queue.as<PrefillQueue>();
  params.num_seqs = batch.num_seqs;
  params.max_items = buffers.max_items;
  while (params.share_log2 < 5 && (batch.num_seqs << (params.share_log2 + 1)) <= kThreads) {
    ++params.share_log2;
  }
  params.rule = prefill_rule(desc.num_heads, desc.num_kv_heads, desc.head_dim, desc.window);
  BIFOCAL_RETURN_IF_ERROR(
      launch_kernel(plan_prefill_kernel, kCtas, kThreads, 0, launch, "the prefill plan kernel", params));
  return plan;
}

}  // namespace bifocal::kernels::cuda
