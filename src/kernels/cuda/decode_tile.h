// One warp's share of a tile: 16 keys against the query rows of a unit.
//
// The products are transposed, S' = K Q' and O' = V' P', so that keys and head dims fill the 16 rows of the
// mma and the few query rows its 8 columns. Lane 4g+t holds of S' the keys g and g+8, of O' the head dims
// 16i+g and 16i+g+8, of both the query rows 8n+2t and 8n+2t+1.
#pragma once

#include <cmath>

#include "kernels/cuda/decode_shared.h"

namespace bifocal::kernels::cuda {

// A tile in shared memory (kv_maps.h): groups of eight tokens, in a group one panel of 64 columns after the
// other.
template <int kD>
__device__ __forceinline__ uint32_t token_address(const uint16_t* tile, int token) {
  return smem_address(tile) + static_cast<uint32_t>(token / 8 * (kD * 16) + token % 8 * 128);
}

// The 16 bytes of columns 8 * chunk of a panel; the token's lane knows its row of the swizzle.
__device__ __forceinline__ uint32_t chunk_address(uint32_t token_base, int panel, int chunk, int lane) {
  return token_base + static_cast<uint32_t>(panel * 1024 + ((chunk ^ (lane % 8)) * 16));
}

// A warp's own softmax state over a span.
template <int kD, int kN>
struct WarpState {
  float o[kD / 16][kN][4];
  float m[kN][2];
  float l[kN][2];  // this lane's keys only
  __device__ void clear() {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      m[n][0] = m[n][1] = -INFINITY;
      l[n][0] = l[n][1] = 0.0F;
#pragma unroll
      for (int i = 0; i < kD / 16; ++i) o[i][n][0] = o[i][n][1] = o[i][n][2] = o[i][n][3] = 0.0F;
    }
  }
};

// A unit's query rows [kRows][D] as B fragments. Rows beyond the unit's are whatever lay there before: their
// results go nowhere.
template <int kD, int kN>
__device__ __forceinline__ void load_queries(const uint16_t* rows, uint32_t (&q)[kD / 16][kN][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < kD / 16; i += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, smem_address(&rows[(8 * n + lane % 8) * kD + i * 16 + (lane / 8) * 8]));
      q[i][n][0] = b[0];
      q[i][n][1] = b[1];
      q[i + 1][n][0] = b[2];
      q[i + 1][n][1] = b[3];
    }
  }
}

// S' = K Q' for 16 keys: swizzled K rows at `tile`, first key `row` of the tile.
template <int kD, int kN>
__device__ __forceinline__ void multiply_keys(const uint16_t* tile, int row,
                                              const uint32_t (&q)[kD / 16][kN][2], float (&s)[kN][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t base = token_address<kD>(tile, row + lane % 16);
  constexpr bool kTwoChains = kN == 1;  // with more columns there are enough independent products without
  float odd[4] = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) s[n][j] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) {
    const int chunk = (i % 4) * 2 + lane / 16;
    uint32_t a[4];
    ldmatrix_x4(a, chunk_address(base, i / 4, chunk, lane));
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      mma_16x8x16(kTwoChains && i % 2 == 1 ? odd : s[n], a, q[i][n][0], q[i][n][1]);
    }
  }
  if (kTwoChains) {
#pragma unroll
    for (int j = 0; j < 4; ++j) s[0][j] += odd[j];
  }
}

// O' += V' P' for 16 keys. keep[i] zeroes values of keys that don't exist: whatever lies there, NaN too,
// times a probability of zero must give zero.
template <int kD, int kN, bool kMasked>
__device__ __forceinline__ void multiply_values(const uint16_t* tile, int row, const uint32_t (&p)[kN][2],
                                                const uint32_t (&keep)[2], float (&o)[kD / 16][kN][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t base = token_address<kD>(tile, row + lane % 8 + (lane / 16) * 8);
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) {
    const int chunk = (i % 4) * 2 + (lane / 8) % 2;
    uint32_t a[4];
    ldmatrix_x4_trans(a, chunk_address(base, i / 4, chunk, lane));
    if (kMasked) {
      a[0] &= keep[0];
      a[1] &= keep[0];
      a[2] &= keep[1];
      a[3] &= keep[1];
    }
#pragma unroll
    for (int n = 0; n < kN; ++n) mma_16x8x16(o[i][n], a, p[n][0], p[n][1]);
  }
}

// Logits in base-2 units.
template <int kN>
__device__ __forceinline__ void scale_logits(const DecodeParams& params, float (&s)[kN][4]) {
  if (params.softcap > 0.0F) [[unlikely]] {
    const float inner = params.scale / params.softcap;
    const float outer = params.softcap * kLog2E;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s[n][j] = outer * tanhf(s[n][j] * inner);
    }
  } else {
    const float factor = params.scale * kLog2E;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s[n][j] *= factor;
    }
  }
}

// Keys that a row doesn't see. Rows are in order (query token, head).
template <int kN>
__device__ __forceinline__ void mask_keys(const DecodeParams& params, int kv_end, int first_key,
                                          float (&s)[kN][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int token = min((8 * n + 2 * (lane % 4) + j % 2) / params.group, params.q_len - 1);
      const int end = kv_end - params.q_len + 1 + token;
      const int begin = params.window > 0 ? end - params.window : 0;
      const int key = first_key + lane / 4 + (j / 2) * 8;
      if (key < begin || key >= end) s[n][j] = -INFINITY;
    }
  }
}

// Logits into probabilities; the state's statistics and O follow a maximum that rises.
template <int kD, int kN>
__device__ __forceinline__ void update_state(float (&s)[kN][4], WarpState<kD, kN>& state,
                                             uint32_t (&p)[kN][2]) {
  bool raised = false;
  float m[kN][2];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float top = fmaxf(s[n][j], s[n][j + 2]);
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 4));
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 8));
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 16));
      m[n][j] = fmaxf(state.m[n][j], ceilf(top));
      raised = raised || m[n][j] > state.m[n][j];
    }
  }
  if (__any_sync(~0U, raised)) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float keep = move_weight(state.m[n][j], m[n][j]);
        state.m[n][j] = m[n][j];
        state.l[n][j] *= keep;
#pragma unroll
        for (int i = 0; i < kD / 16; ++i) {
          state.o[i][n][j] *= keep;
          state.o[i][n][j + 2] *= keep;
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float top = finite_or_zero(m[n][j]);
      s[n][j] = exp2_approx(s[n][j] - top);
      s[n][j + 2] = exp2_approx(s[n][j + 2] - top);
      state.l[n][j] += s[n][j] + s[n][j + 2];
    }
    p[n][0] = movmatrix_trans(pack_bf16(s[n][0], s[n][1]));
    p[n][1] = movmatrix_trans(pack_bf16(s[n][2], s[n][3]));
  }
}

// Which of the lane's keys in V' fragments exist: [begin, end) relative to the warp's first key.
__device__ __forceinline__ void value_masks(int begin, int end, uint32_t (&keep)[2]) {
  const int key = (static_cast<int>(threadIdx.x) % 4) * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int low = key + 8 * i;
    keep[i] = (low >= begin && low < end ? 0x0000FFFFU : 0U) |
              (low + 1 >= begin && low + 1 < end ? 0xFFFF0000U : 0U);
  }
}

}  // namespace bifocal::kernels::cuda
