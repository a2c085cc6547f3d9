// What the fold threads own of a unit's result, and where it goes.
#pragma once

#include "kernels/cuda/decode_shared.h"

namespace bifocal::kernels::cuda {

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

// Where a vector of a unit goes, and what its row needs besides.
struct OutputVector {
  uint16_t* out;
  float* lse;  // null: not asked for, or not this vector's to write
  float sink;
};
template <int kD>
__device__ __forceinline__ OutputVector output_vector(const DecodeParams& params, const Run& run,
                                                      int vector) {
  const int dim = vector % (kD / 4) * 4;
  int row = vector / (kD / 4);
  int64_t token = run.seq.q_row;
  for (; row >= params.group; row -= params.group) ++token;
  const int head = static_cast<int>(blockIdx.x) * params.group + row;
  return {&params.out[token * params.out_stride + head * kD + dim],
          dim == 0 && params.lse != nullptr ? &params.lse[token * params.num_heads + head] : nullptr,
          params.sinks != nullptr ? params.sinks[head] : -INFINITY};
}

// Normalises a vector, adds the sink, writes it.
__device__ __forceinline__ void store_output(const OutputVector& to, const SoftmaxState& s, const float4& o) {
  const FinalWeights final = finish_state(s, to.sink);
  *reinterpret_cast<uint2*>(to.out) = {pack_bf16(o.x * final.weight, o.y * final.weight),
                                       pack_bf16(o.z * final.weight, o.w * final.weight)};
  if (to.lse != nullptr) *to.lse = final.lse;
}

}  // namespace bifocal::kernels::cuda
