// The plan kernel: every CTA orders the step's sequences and writes its share of the items.
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
  PrefillItem* items;
  PrefillQueue* queue;
  int num_seqs;
  int max_items;
  PrefillRule rule;
};

__global__ void __launch_bounds__(kThreads) plan_prefill_kernel(const __grid_constant__ PlanParams params) {
  __shared__ int kv_len[kMaxPrefillSeqs];
  __shared__ int q_len[kMaxPrefillSeqs];
  __shared__ int q_begin[kMaxPrefillSeqs];
  __shared__ int items[kMaxPrefillSeqs];
  __shared__ int order[kMaxPrefillSeqs];     // longest first
  __shared__ int end_item[kMaxPrefillSeqs];  // of all sequences up to and including this one of the order
  const int thread = static_cast<int>(threadIdx.x);
  const int num_seqs = params.num_seqs;
  grid_dependency_wait();
  launch_dependents();
  for (int i = thread; i < num_seqs; i += kThreads) {
    kv_len[i] = params.kv_len[i];
    q_len[i] = params.q_len[i];
    q_begin[i] = params.q_begin[i];
    items[i] = prefill_items(params.rule, q_len[i]);
  }
  __syncthreads();
  for (int i = thread; i < num_seqs; i += kThreads) {
    const int mine = kv_len[i];
    int rank = 0;
    int end = items[i];
#pragma unroll 4
    for (int j = 0; j < num_seqs; ++j) {
      const int other = kv_len[j];
      if (other > mine || (other == mine && j < i)) {
        ++rank;
        end += items[j];
      }
    }
    order[rank] = i;
    end_item[rank] = end;
  }
  __syncthreads();

  const int total = min(end_item[num_seqs - 1], params.max_items);
  for (int index = static_cast<int>(blockIdx.x) * kThreads + thread; index < total;
       index += kCtas * kThreads) {
    int low = 0;
    int high = num_seqs - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (end_item[middle] > index) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int seq = order[low];
    params.items[index] = prefill_item(params.rule, seq, q_begin[seq], q_len[seq], kv_len[seq],
                                       index - (low > 0 ? end_item[low - 1] : 0));
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
  params.items = buffers.items.as<PrefillItem>();
  params.queue = buffers.queue.as<PrefillQueue>();
  params.num_seqs = batch.num_seqs;
  params.max_items = buffers.max_items;
  params.rule = prefill_rule(desc.num_heads, desc.num_kv_heads, desc.head_dim, desc.window);
  BIFOCAL_RETURN_IF_ERROR(
      launch_kernel(plan_prefill_kernel, kCtas, kThreads, 0, launch, "the prefill plan kernel", params));
  return plan;
}

}  // namespace bifocal::kernels::cuda
