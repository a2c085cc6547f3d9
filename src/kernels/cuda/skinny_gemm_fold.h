// Where CTAs share the columns of K: each leaves its sums, and all of a block together add them up.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/marked_words.h"
#include "kernels/cuda/skinny_gemm_finish.h"
#include "kernels/cuda/skinny_gemm_work.h"

namespace bifocal::kernels::cuda::skinny {

template <class S>
class Partials {
 public:
  static constexpr int kTokenGroups = S::kTokens / 8;

  explicit __device__ Partials(const Params& params)
      : first_(params.partials + static_cast<int64_t>(blockIdx.x) / kParts * kParts * kSlotVectors +
               threadIdx.x % 128) {}

  // Where this thread's sums are, of a tile and eight tokens, as part `part` of the block leaves them.
  __device__ float4* at(int part, int tile, int token_group) const {
    return first_ + part * kSlotVectors + (tile * kTokenGroups + token_group) * 128;
  }

 private:
  static constexpr int kSlotVectors = kBlockTiles * kTokenGroups * 128;
  float4* first_;
};

// This warpgroup's sums of every second tile.
template <class S>
__device__ __forceinline__ void leave_sums(const Params& params, const Work& work,
                                           const float (&d)[kOwnTiles][S::kValues]) {
  const Partials<S> partials(params);
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const int part = static_cast<int>(blockIdx.x) % kParts;
#pragma unroll
  for (int i = 0; i < kOwnTiles; ++i) {
    const int tile = i * kWarpgroups + warpgroup;
    if (tile >= work.tiles) continue;
#pragma unroll
    for (int j = 0; j < S::kTokens / 8; ++j) {
      if (8 * j >= params.m) continue;
      store_relaxed(partials.at(part, tile, j),
                    writable(make_float4(d[i][4 * j], d[i][4 * j + 1], d[i][4 * j + 2], d[i][4 * j + 3])));
    }
  }
}

// Adds up some of the block's tiles and tokens, the parts in order of K, and finishes them.
template <class S, Result kResult>
__device__ __forceinline__ void fold_sums(const Params& params, const Work& work) {
  constexpr int kItems = 4;  // at a time: loads take long
  constexpr int kStride = kParts * kWarpgroups;
  const Partials<S> partials(params);
  const Finisher<kResult> finisher(params);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int token_groups = (params.m + 7) / 8;
  const int items = work.tiles * token_groups;
  const int part = static_cast<int>(blockIdx.x) % kParts;
  int first = part * kWarpgroups + static_cast<int>(threadIdx.x) / 128;
  for (; first < items; first += kItems * kStride) {
    if (lane < kParts) {  // few ask until all are likely to be there
      const float4* asked = partials.at(lane, first / token_groups, first % token_groups);
      while (is_unwritten(load_relaxed(asked))) __nanosleep(40);
    }
    __syncwarp();
    float4 v[kItems][kParts];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = first + i * kStride;
      if (item >= items) continue;
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        v[i][p] = load_relaxed(partials.at(p, item / token_groups, item % token_groups));
      }
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = first + i * kStride;
      if (item >= items) continue;
      const int tile = item / token_groups;
      float4 sum;
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        float4* from = partials.at(p, tile, item % token_groups);
        take(from, v[i][p]);
        put_mark_back(from);
        const float4& more = v[i][p];
        sum = p == 0 ? more : make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
      }
      __syncwarp();
      finisher.finish(sum, work.tile_begin(tile), work.tile_units(tile), item % token_groups * 8);
    }
  }
}

}  // namespace bifocal::kernels::cuda::skinny
