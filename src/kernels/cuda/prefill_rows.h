// One warpgroup's 64 rows of a tile: products, online softmax, results. Lane 4g+t of warp w has rows 16w+g
// and 16w+g+8; «row i» below is the one or the other.
#pragma once

#include <cmath>

#include "kernels/cuda/prefill_shared.h"
#include "kernels/cuda/softmax_state.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {

// Where a thread's two rows are in the sequence.
struct RowPositions {
  int token[2];  // in the tile
  int head[2];   // in the group
};

__device__ __forceinline__ RowPositions row_positions(const PrefillParams& params, int first_row) {
  RowPositions rows;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + 8 * i;
    rows.token[i] = static_cast<int>((static_cast<uint32_t>(row) * params.group_rcp) >> 16);
    rows.head[i] = row - rows.token[i] * params.group;
  }
  return rows;
}

// S = Q K'. q: the warpgroup's rows of the first panel.
template <int kD>
__device__ __forceinline__ void multiply_keys(uint32_t q, uint32_t k, float (&s)[PrefillShape<kD>::kN / 2]) {
  using S = PrefillShape<kD>;
#pragma unroll
  for (int panel = 0; panel < S::kPanels; ++panel) {
    const auto a = WgmmaMatrix::at(q + panel * S::kQPanelBytes, 1024, 0);
    const auto b = WgmmaMatrix::at(k + panel * 1024, S::kGroupBytes, 0);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      wgmma_shared<S::kN>(s, a.plus(step * 32), b.plus(step * 32), panel + step > 0 ? 1 : 0);
    }
  }
}

// O = P V or O + P V.
template <int kD>
__device__ __forceinline__ void multiply_values(const uint32_t (&p)[PrefillShape<kD>::kN / 4], uint32_t v,
                                                int accumulate, float (&o)[kD / 2]) {
  using S = PrefillShape<kD>;
  const auto b = WgmmaMatrix::at(v, S::kGroupBytes, 1024);
#pragma unroll
  for (int step = 0; step < S::kN / 16; ++step) {
    wgmma_registers<kD>(o, &p[4 * step], b.plus(step * 2 * S::kGroupBytes), step > 0 ? 1 : accumulate);
  }
}

// Keys that a row doesn't see. first_key: of the block.
template <int kN>
__device__ __forceinline__ void mask_keys(const RowPositions& rows, int position, int window, int first_key,
                                          float (&s)[kN / 2]) {
  const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int last = position + rows.token[i] - first_key - column;
    const int first = window > 0 ? last + 1 - window : -kN;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& logit = s[4 * j + 2 * i + e];
        if (8 * j + e > last || 8 * j + e < first) logit = -INFINITY;
      }
    }
  }
}

// m: in the units of s. l: this lane's columns only.
struct RowState {
  float m[2];
  float l[2];
};

// s becomes cap * tanh(s), without the factor cap.
template <int kCount>
__device__ __forceinline__ void cap_logits(float inner, float (&s)[kCount]) {
  const float factor = 2.0F * kLog2E * inner;
#pragma unroll
  for (float& logit : s) logit = 1.0F - __fdividef(2.0F, exp2_approx(logit * factor) + 1.0F);
}

// Logits become 2^(cap (s - m)); keep: what everything summed before is to be multiplied by.
template <int kN>
__device__ __forceinline__ void update_state(float cap, float (&s)[kN / 2], RowState& state,
                                             float (&keep)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float top = state.m[i];
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) top = fmaxf(top, fmaxf(s[4 * j + 2 * i], s[4 * j + 2 * i + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 2));
    const float reference = finite_or_zero(top) * cap;
    keep[i] = exp2_approx(__fmaf_rn(state.m[i], cap, -reference));
    state.m[i] = top;
    float sum = 0.0F;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& logit = s[4 * j + 2 * i + e];
        logit = exp2_approx(__fmaf_rn(logit, cap, -reference));
        sum += logit;
      }
    }
    state.l[i] = __fmaf_rn(state.l[i], keep[i], sum);
  }
}

template <int kCount>
__device__ __forceinline__ void pack_probabilities(const float (&s)[2 * kCount], uint32_t (&p)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

template <int kCount>
__device__ __forceinline__ void scale_rows(const float (&keep)[2], float (&o)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= keep[i / 2 % 2];
}

// Rows of V that hold no keys of the item become zero: their probabilities are, but zero times the NaN that
// may lie there is not. The rows of a block that count are [begin, end). By a whole warpgroup.
template <int kD>
__device__ __forceinline__ void clear_values(uint8_t* block, int begin, int end, int barrier) {
  using S = PrefillShape<kD>;
  constexpr int kChunks = S::kD / 8;  // of 16 bytes, in a token
  const int thread = static_cast<int>(threadIdx.x) % 128;
  for (int i = thread; i < S::kN * kChunks; i += 128) {
    const int token = i / kChunks;
    const int chunk = i % kChunks;
    if (token >= begin && token < end) continue;
    // The swizzle moves chunks within a panel's row, so clearing all of them needs no swizzle.
    auto* at = block + token / 8 * S::kGroupBytes + chunk / 8 * 1024 + token % 8 * 128 + chunk % 8 * 16;
    *reinterpret_cast<uint4*>(at) = uint4{0, 0, 0, 0};
  }
  async_proxy_fence();
  named_barrier_sync(static_cast<uint32_t>(barrier), 128);
}

// Four lanes have four words each; lane t gets word t of each lane, in their order.
__device__ __forceinline__ uint4 transpose_quad(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool odd = t % 2 != 0;
  const uint32_t far0 = __shfl_xor_sync(~0U, odd ? w0 : w1, 1);
  const uint32_t far1 = __shfl_xor_sync(~0U, odd ? w2 : w3, 1);
  const uint32_t a0 = odd ? far0 : w0;  // of lanes t and t ^ 1, word t % 2, in the lanes' order
  const uint32_t a1 = odd ? w1 : far0;
  const uint32_t b0 = odd ? far1 : w2;  // word 2 + t % 2
  const uint32_t b1 = odd ? w3 : far1;
  const bool high = t >= 2;
  const uint32_t far2 = __shfl_xor_sync(~0U, high ? a0 : b0, 2);
  const uint32_t far3 = __shfl_xor_sync(~0U, high ? a1 : b1, 2);
  return high ? uint4{far2, far3, b0, b1} : uint4{a0, a1, far2, far3};
}

// Normalises and writes the rows that exist.
template <int kD>
__device__ __forceinline__ void write_rows(const PrefillParams& params, const PrefillItem& item,
                                           const RowPositions& rows, const RowState& state,
                                           float (&o)[kD / 2]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float l = state.l[i];
    l += __shfl_xor_sync(~0U, l, 1);
    l += __shfl_xor_sync(~0U, l, 2);
    const bool exists = rows.token[i] < item.num_tokens;
    const int head = item.head * params.group + rows.head[i];
    const float sink = params.sinks != nullptr && exists ? params.sinks[head] : -INFINITY;
    const FinalWeights final = finish_state({state.m[i] * params.cap, l}, sink);
    const int64_t row = item.q_row + rows.token[i];
    uint16_t* out = params.out + row * params.out_stride + head * kD;
#pragma unroll
    for (int j = 0; j < kD / 8; j += 4) {
      uint32_t words[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int at = 4 * (j + n) + 2 * i;
        words[n] = pack_bf16(o[at] * final.weight, o[at + 1] * final.weight);
      }
      const uint4 mine = transpose_quad(words[0], words[1], words[2], words[3]);
      if (exists) *reinterpret_cast<uint4*>(out + 8 * (j + t)) = mine;
    }
    if (exists && t == 0 && params.lse != nullptr) params.lse[row * params.num_heads + head] = final.lse;
  }
}

}  // namespace bifocal::kernels::cuda
