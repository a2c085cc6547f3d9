// Queries, and the newest key and value of a sequence, as the product of the projections has left them:
// rotated here instead of by a kernel of their own. Whose keys end with the newest one writes it to the
// cache, and puts it into the tile, which was read before it could be there.
#pragma once

#include "kernels/cuda/decode_shared.h"
#include "kernels/cuda/decode_tile.h"
#include "kernels/cuda/rope_head.h"

namespace bifocal::kernels::cuda {

// cos and sin for the dims of a lane.
template <int kD>
struct LaneAngles {
  float cosine[HeadLane<kD>::kPer];
  float sine[HeadLane<kD>::kPer];

  __device__ LaneAngles(const RopeKv& rope, int token) {
    const int pairs = rope.rotary_dim / 2;
#pragma unroll
    for (int e = 0; e < HeadLane<kD>::kPer; ++e) {
      const int d = HeadLane<kD>::first_dim() + e;
      cosine[e] = sine[e] = 0.0F;
      if (d >= rope.rotary_dim) continue;
      rope_angle(rope, token, rope.interleaved ? d / 2 : d >= pairs ? d - pairs : d, &cosine[e], &sine[e]);
    }
  }
};

// A head of queries or keys (`head` counts both) from its bits.
template <int kD>
__device__ __forceinline__ typename HeadLane<kD>::Bits rotated_head(const RopeKv& rope,
                                                                    const LaneAngles<kD>& angles, int head,
                                                                    const uint16_t* norm,
                                                                    const typename HeadLane<kD>::Bits& bits) {
  using Lane = HeadLane<kD>;
  float x[Lane::kPer];
  Lane::unpack(bits, x);
  Lane::add_bias(rope, head, x);
  Lane::normalise(norm, rope.norm_eps, x);
  const int pairs = rope.rotary_dim / 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool upper = Lane::first_dim() >= pairs;
  const int other = upper ? lane - pairs / Lane::kPer : lane + pairs / Lane::kPer;
  float partner[Lane::kPer];
#pragma unroll
  for (int e = 0; e < Lane::kPer; ++e) {
    partner[e] = rope.interleaved ? x[e ^ 1] : __shfl_sync(~0U, x[e], other);
  }
#pragma unroll
  for (int e = 0; e < Lane::kPer; ++e) {
    if (Lane::first_dim() + e >= rope.rotary_dim) continue;
    const bool second = rope.interleaved ? e % 2 != 0 : upper;
    x[e] = rotated(x[e], second ? partner[e] : -partner[e], angles.cosine[e], angles.sine[e]);
  }
  return Lane::pack(x);
}

// The newest key and value of a sequence, in the warp whose keys they end.
template <int kD>
struct NewestRow {
  using Lane = HeadLane<kD>;
  typename Lane::Bits k, v;

  __device__ void make(const DecodeParams& params, const LaneAngles<kD>& angles, int token) {
    const RopeKv& rope = params.rope;
    const int kv_head = static_cast<int>(blockIdx.x);
    const int k_head = params.num_heads + kv_head;
    const int v_head = k_head + params.num_kv_heads;
    const uint16_t* row = rope.qkv + int64_t{token} * (params.num_heads + 2 * params.num_kv_heads) * kD;
    k = Lane::load_fresh(row + k_head * kD);
    v = Lane::load_fresh(row + v_head * kD);
    k = rotated_head<kD>(rope, angles, k_head, rope.k_norm, k);
    float x[Lane::kPer];
    Lane::unpack(v, x);
    Lane::add_bias(rope, v_head, x);
    v = Lane::pack(x);
    const int64_t slot = rope.kv_slots[token];
    if (slot < 0) return;
    const int64_t at =
        ((slot / rope.page_size * params.num_kv_heads + kv_head) * rope.page_size + slot % rope.page_size) *
        kD;
    Lane::store(rope.k + at, k);
    Lane::store(rope.v + at, v);
  }

  // Over what lies in a tile of keys or values in shared memory; a copy may overwrite it again.
  __device__ static void put(const typename Lane::Bits& bits, uint16_t* tile, int token) {
    const int d = Lane::first_dim();
    const int chunk = d % 64 / 8;
    uint8_t* to = reinterpret_cast<uint8_t*>(tile) + token / 8 * (kD * 16) + token % 8 * 128 + d / 64 * 1024 +
                  (chunk ^ (token % 8)) * 16 + d % 8 * 2;
    *reinterpret_cast<typename Lane::Bits*>(to) = bits;
    async_proxy_fence();
    __syncwarp();
  }
};

// The query rows of a run: warp w makes rows w, w + 8, ... of `to`.
template <int kD>
__device__ __forceinline__ void rotate_queries(const DecodeParams& params, const LaneAngles<kD>& angles,
                                               int token, uint16_t* to) {
  using Lane = HeadLane<kD>;
  const int first_head = static_cast<int>(blockIdx.x) * params.group;
  const uint16_t* row = params.rope.qkv + int64_t{token} * (params.num_heads + 2 * params.num_kv_heads) * kD;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < params.rows; r += kConsumerWarps) {
    const int head = first_head + r;
    const auto bits = Lane::load_fresh(row + head * kD);
    Lane::store(to + r * kD, rotated_head<kD>(params.rope, angles, head, params.rope.q_norm, bits));
  }
}

}  // namespace bifocal::kernels::cuda
