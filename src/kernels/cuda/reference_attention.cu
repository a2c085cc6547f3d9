// One block for each (query row, head): scores of kThreads keys at a time, two passes, all sums in double.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/reference_attention.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxHeadDim = 256;

__device__ double to_double(uint16_t bits) {
  return static_cast<double>(__uint_as_float(static_cast<uint32_t>(bits) << 16));
}

__device__ const uint16_t* kv_row(const ReferenceAttention& args, const uint16_t* base, int seq, int head,
                                  int key) {
  const int64_t page = args.page_table[seq * args.page_table_stride + key / args.page_size];
  return base + page * args.page_stride + head * args.head_stride +
         (key % args.page_size) * args.token_stride;
}

__device__ double logit(const ReferenceAttention& args, const double* q, int seq, int head, int key) {
  const uint16_t* k = kv_row(args, args.k, seq, head, key);
  double sum = 0.0;
  for (int d = 0; d < args.head_dim; ++d) sum += q[d] * to_double(k[d]);
  sum *= static_cast<double>(args.scale);
  if (args.softcap > 0.0F) {
    const auto cap = static_cast<double>(args.softcap);
    sum = cap * tanh(sum / cap);
  }
  return sum;
}

__global__ void reference_kernel(const ReferenceAttention args) {
  __shared__ double q[kMaxHeadDim];
  __shared__ double scores[kThreads];
  const int token = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int seq = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x);
  if (token >= args.q_len[seq]) return;
  const int64_t row = args.q_begin[seq] + token;
  const int kv_head = head / (args.num_heads / args.num_kv_heads);
  for (int d = thread; d < args.head_dim; d += kThreads) {
    q[d] = to_double(args.q[(row * args.num_heads + head) * args.head_dim + d]);
  }
  const int end = args.kv_len[seq] - args.q_len[seq] + token + 1;
  const int begin = args.window > 0 && end > args.window ? end - args.window : 0;
  __syncthreads();

  double top = args.sinks != nullptr ? static_cast<double>(args.sinks[head]) : -INFINITY;
  for (int key = begin + thread; key < end; key += kThreads)
    top = fmax(top, logit(args, q, seq, kv_head, key));
  scores[thread] = top;
  __syncthreads();
  for (int i = 0; i < kThreads; ++i) top = fmax(top, scores[i]);
  __syncthreads();

  double sum = args.sinks != nullptr ? exp(static_cast<double>(args.sinks[head]) - top) : 0.0;
  double o[kMaxHeadDim / kThreads] = {};
  for (int base = begin; base < end; base += kThreads) {
    const int count = min(kThreads, end - base);
    if (thread < count) scores[thread] = exp(logit(args, q, seq, kv_head, base + thread) - top);
    __syncthreads();
    for (int i = 0; i < count; ++i) {
      sum += scores[i];
      const uint16_t* v = kv_row(args, args.v, seq, kv_head, base + i);
      for (int j = 0; j < kMaxHeadDim / kThreads; ++j) {
        if (thread + j * kThreads < args.head_dim) o[j] += scores[i] * to_double(v[thread + j * kThreads]);
      }
    }
    __syncthreads();
  }
  for (int j = 0; j < kMaxHeadDim / kThreads; ++j) {
    const int d = thread + j * kThreads;
    if (d >= args.head_dim) continue;
    args.out[(row * args.num_heads + head) * args.head_dim + d] =
        sum > 0.0 ? static_cast<float>(o[j] / sum) : 0.0F;
  }
  if (thread == 0 && args.lse != nullptr) {
    args.lse[row * args.num_heads + head] = sum > 0.0 ? static_cast<float>(top + log(sum)) : -INFINITY;
  }
}

}  // namespace

Status run_reference_attention(const ReferenceAttention& args, cudaStream_t stream) {
  if (args.head_dim > kMaxHeadDim) return unsupported("reference attention on the GPU: head dim above 256");
  if (args.num_seqs == 0 || args.max_q_len == 0) return {};
  const dim3 grid(static_cast<unsigned>(args.max_q_len), static_cast<unsigned>(args.num_heads),
                  static_cast<unsigned>(args.num_seqs));
  reference_kernel<<<grid, kThreads, 0, stream>>>(args);
  return to_status(cudaGetLastError(), "reference attention");
}

}  // namespace bifocal::kernels::cuda
