// What happens to the sums of a tile: added up over the warps, scaled, bias, residual or gate, one rounding.
// Where a norm follows, also the rows times the norm's weights, and their squares.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/skinny_chain_link.h"

namespace bifocal::kernels::cuda::chain {

constexpr uint32_t kSumsBarrier = 1;
constexpr uint32_t kStoredBarrier = 2;

struct FinishShared {
  float scales[kTokens];  // of the norm ahead of the link
  // Sums over each warp's panels; a row's length keeps stores of fragments free of bank conflicts.
  // Of two tiles: one is read while the next is written.
  float parts[2][kMultipliers][kTokens][kTileRows + 4];
};

// One link's. Warp w has token w, lane i column i of a tile.
class Finisher {
 public:
  __device__ Finisher(const Params& params, const Link& link, FinishShared& shared)
      : params_(params), link_(link), shared_(shared) {}

  // Asks for what a tile's sums meet: under load, an answer takes as long as several pieces.
  __device__ void prefetch(const Tile& tile) {
    column_ = tile.column + lane();
    columns_ = tile.tiles->columns;
    mine_ = warp() < params_.m && lane() < columns_;
    if (!mine_) return;
    added_ = link_.bias != nullptr ? bf16_to_float(__ldg(link_.bias + column_)) : 0.0F;
    up_added_ = link_.bias != nullptr && link_.halves == 2
                    ? bf16_to_float(__ldg(link_.bias + link_.n + column_))
                    : 0.0F;
    if (link_.residual != nullptr) added_ += bf16_to_float(__ldcg(link_.residual + at()));
    if (link_.norm != nullptr) norm_ = bf16_to_float(__ldg(link_.norm + column_));
  }

  // d: of a block of 16 rows, lane 4g + t has rows g (d[0], d[1]) and g + 8, of tokens 2t and 2t + 1.
  // turn: 0 and 1 alternate. late: this warp hasn't prefetched, as it had no piece.
  __device__ void finish(const float (&d)[2][kTileRows / 16][4], const Tile& tile, int index, int turn,
                         bool scaled, bool late) {
#pragma unroll
    for (int block = 0; block < kTileRows / 16; ++block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        shared_.parts[turn][warp()][lane() % 4 * 2 + e % 2][16 * block + lane() / 4 + e / 2 * 8] =
            d[0][block][e] + d[1][block][e];
      }
    }
    __syncwarp();
    named_barrier_sync(kSumsBarrier, kConsumers);
    if (late) prefetch(tile);
    if (warp() < params_.m) store(index, turn, scaled ? shared_.scales[warp()] : 1.0F);
  }

  // After the last tile: the results of this CTA are in memory, for the copies of x of the next link.
  __device__ void announce(int* finished) const {
    if (warp() >= params_.m) return;
    async_proxy_fence_global();
    __threadfence();
    __syncwarp();
    named_barrier_sync(kStoredBarrier, static_cast<uint32_t>(params_.m) * 32);
    if (threadIdx.x == 0) atomicAdd(finished, 1);
  }

 private:
  __device__ static int warp() {
    return static_cast<int>(threadIdx.x) / 32;
  }
  __device__ static int lane() {
    return static_cast<int>(threadIdx.x) % 32;
  }
  __device__ int64_t at() const {
    return int64_t{warp()} * link_.n + column_;
  }

  __device__ float sum(int turn, int row) const {
    float sum = shared_.parts[turn][0][warp()][row];
#pragma unroll
    for (int w = 1; w < kMultipliers; ++w) sum += shared_.parts[turn][w][warp()][row];
    return sum;
  }

  __device__ void store(int tile, int turn, float scale) {
    float squares = 0.0F;
    if (mine_) {
      float value = sum(turn, lane()) * scale + added_;
      if (link_.halves == 2) value = silu(value) * (sum(turn, lane() + columns_) * scale + up_added_);
      const uint16_t rounded = float_to_bf16(value);
      link_.out[at()] = rounded;
      if (link_.norm != nullptr) {
        const float out = bf16_to_float(rounded);
        squares = out * out;
        link_.normed[at()] = float_to_bf16(out * norm_);
      }
    }
    if (link_.norm == nullptr) return;
    squares = warp_sum(squares);
    if (lane() == 0) __stcg(params_.squares + tile * kTokens + warp(), squares);
  }

  const Params& params_;
  const Link& link_;
  FinishShared& shared_;
  int column_ = 0;
  int columns_ = 0;
  bool mine_ = false;
  float added_ = 0.0F;
  float up_added_ = 0.0F;  // of the gate's other half
  float norm_ = 0.0F;
};

}  // namespace bifocal::kernels::cuda::chain
