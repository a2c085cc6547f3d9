// What a warpgroup does with the sums of a tile: scale, bias, residual or gate, one rounding. Where a norm
// follows, also the rows times the norm's weights, and their squares.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/skinny_chain_link.h"

namespace bifocal::kernels::cuda::chain {

struct FinishShared {
  float scales[kTokens];      // of the norm ahead of the link
  float squares[4][kTokens];  // of each warp's columns
};

// One link's. Lane 4g + t of warp w has of a tile rows 16w + g (d[0], d[1]) and 16w + 8 + g (d[2], d[3]), of
// tokens 2t and 2t + 1.
class Finisher {
 public:
  __device__ Finisher(const Params& params, int which, FinishShared& shared)
      : params_(params),
        link_(params.links[which]),
        scaled_(which > 0 && params.links[which - 1].norm != nullptr),
        shared_(shared) {}

  __device__ bool scaled() const { return scaled_; }

  // Asks for what a tile's sums meet: under load, an answer takes as long as several pieces.
  __device__ void prefetch(int first_unit, int units) {
    if (link_.unit_groups == 2) {
      const int column = (first_unit + warp()) * kGroupRows + lane() / 4;
      const bool biased = link_.bias != nullptr && warp() < units;
      added_[0] = biased ? bf16_to_float(__ldg(link_.bias + column)) : 0.0F;
      added_[1] = biased ? bf16_to_float(__ldg(link_.bias + link_.n + column)) : 0.0F;
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      added_[i] = 0.0F;
      const int unit = 2 * warp() + i / 2;
      const int token = 2 * (lane() % 4) + i % 2;
      if (unit >= units || token >= params_.m) continue;
      const int column = (first_unit + unit) * kGroupRows + lane() / 4;
      if (link_.bias != nullptr) added_[i] = bf16_to_float(__ldg(link_.bias + column));
      if (link_.residual != nullptr) {
        added_[i] += bf16_to_float(__ldcg(link_.residual + int64_t{token} * link_.n + column));
      }
    }
    if (link_.norm == nullptr) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int unit = 2 * warp() + half;
      if (unit >= units) continue;
      norm_[half] = __ldg(reinterpret_cast<const uint32_t*>(link_.norm + column_of_pair(first_unit + unit)));
    }
  }

  __device__ void finish(const float (&d)[4], int first_unit, int units) {
    float scales[2] = {1.0F, 1.0F};
    if (scaled_) {
      scales[0] = shared_.scales[2 * (lane() % 4)];
      scales[1] = shared_.scales[2 * (lane() % 4) + 1];
    }
    if (link_.unit_groups == 2) {
      if (warp() >= units) return;
      float inner[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        inner[e] = silu(d[e] * scales[e] + added_[0]) * (d[2 + e] * scales[e] + added_[1]);
      }
      store(link_.out, first_unit + warp(), turned(inner[0], inner[1]));
      return;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (2 * warp() + half >= units) continue;
      const int unit = first_unit + 2 * warp() + half;
      const uint32_t pair = turned(d[2 * half] * scales[0] + added_[2 * half],
                                   d[2 * half + 1] * scales[1] + added_[2 * half + 1]);
      store(link_.out, unit, pair);
      if (link_.norm == nullptr) continue;
      const float low = bf16_low(pair);
      const float high = bf16_high(pair);
      squares_ += low * low + high * high;
      store(link_.normed, unit, pack_bf16(low * bf16_low(norm_[half]), high * bf16_high(norm_[half])));
    }
  }

  // After the last tile: the results of this CTA are in memory, for the copies of x of the next link.
  __device__ void announce(int* finished) {
    if (link_.norm != nullptr) leave_squares();
    async_proxy_fence_global();
    __threadfence();
    named_barrier_sync(1, 128);
    if (threadIdx.x == 0) atomicAdd(finished, 1);
  }

 private:
  __device__ static int warp() {
    return static_cast<int>(threadIdx.x) / 32;
  }
  __device__ static int lane() {
    return static_cast<int>(threadIdx.x) % 32;
  }

  // Eight columns by eight tokens turned around: this lane gets two neighbouring columns of token lane/4.
  __device__ static uint32_t turned(float a, float b) {
    return movmatrix_trans(pack_bf16(a, b));
  }
  __device__ static int column_of_pair(int unit) {
    return unit * kGroupRows + lane() % 4 * 2;
  }

  __device__ void store(uint16_t* out, int unit, uint32_t pair) const {
    const int token = lane() / 4;
    if (token >= params_.m) return;
    *reinterpret_cast<uint32_t*>(out + int64_t{token} * link_.n + column_of_pair(unit)) = pair;
  }

  // squares_: of token lane/4 over this thread's columns.
  __device__ void leave_squares() {
    squares_ += __shfl_xor_sync(0xFFFFFFFFU, squares_, 1);
    squares_ += __shfl_xor_sync(0xFFFFFFFFU, squares_, 2);
    if (lane() % 4 == 0) shared_.squares[warp()][lane() / 4] = squares_;
    named_barrier_sync(1, 128);
    if (threadIdx.x >= kTokens) return;
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < 4; ++w) sum += shared_.squares[w][threadIdx.x];
    __stcg(params_.squares + threadIdx.x * gridDim.x + blockIdx.x, sum);
  }

  const Params& params_;
  const Link& link_;
  bool scaled_;
  FinishShared& shared_;
  float added_[4] = {};    // gated: the biases of gate and other half
  uint32_t norm_[2] = {};  // weights of two neighbouring columns
  float squares_ = 0.0F;
};

}  // namespace bifocal::kernels::cuda::chain
