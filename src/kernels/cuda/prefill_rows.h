// One warpgroup's 64 rows of a tile: products, online softmax, results. Lane 4g+t of warp w has rows 16w+g
// and 16w+g+8; «row i» below is the one or the other.
#pragma once

#include <cmath>

#include "kernels/cuda/prefill_shared.h"
#include "kernels/cuda/softmax_state.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {

// Of a row of a tile: which token, which head of the group.
struct RowPosition {
  int token;
  int head;
};

__device__ __forceinline__ RowPosition row_position(const PrefillParams& params, int row) {
  const int token = static_cast<int>((static_cast<uint32_t>(row) * params.group_rcp) >> 16);
  return {token, row - token * params.group};
}

// S = Q K', the first kKeys keys of a block. q: the warpgroup's rows of the first panel.
template <int kD, int kKeys>
__device__ __forceinline__ void multiply_keys(uint32_t q, uint32_t k, float (&s)[kKeys / 2]) {
  using S = PrefillShape<kD>;
  asm volatile("" : "+r"(q));  // or the compiler keeps a descriptor for every step in registers
#pragma unroll
  for (int panel = 0; panel < S::kPanels; ++panel) {
    const WgmmaMatrix<1024, 0> a(q + panel * S::kQPanelBytes);
    const WgmmaMatrix<S::kGroupBytes, 0> b(k + panel * 1024);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      wgmma_shared<kKeys>(s, a.plus(i * 32), b.plus(i * 32), panel + i > 0 ? 1 : 0);
    }
  }
}

// O = P V or O + P V.
template <int kD>
__device__ __forceinline__ void multiply_values(const uint32_t (&p)[PrefillShape<kD>::kN / 4], uint32_t v,
                                                int accumulate, float (&o)[kD / 2]) {
  using S = PrefillShape<kD>;
  const WgmmaMatrix<S::kGroupBytes, 1024> b(v);
#pragma unroll
  for (int step = 0; step < S::kN / 16; ++step) {
    wgmma_registers<kD>(o, &p[4 * step], b.plus(step * 2 * S::kGroupBytes), step > 0 ? 1 : accumulate);
  }
}

// Keys that a row doesn't see. first_row: row 0; position: of the tile's first token; first_key: of the
// block.
template <int kN>
__device__ __forceinline__ void mask_keys(const PrefillParams& params, int first_row, int position,
                                          int first_key, float (&s)[kN / 2]) {
  const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int last = position + row_position(params, first_row + 8 * i).token - first_key - column;
#pragma unroll
    for (int n = 0; n < kN / 4; ++n) {
      if (n / 2 * 8 + n % 2 > last) s[n / 2 * 4 + 2 * i + n % 2] = -INFINITY;
    }
    if (params.rule.window > 0) {
      const int first = last + 1 - params.rule.window;
#pragma unroll
      for (int n = 0; n < kN / 4; ++n) {
        if (n / 2 * 8 + n % 2 < first) s[n / 2 * 4 + 2 * i + n % 2] = -INFINITY;
      }
    }
  }
}

// What a row has summed: l = sum of 2^(logit - m), this lane's columns only, logits in base-2 units. m is
// -inf before the row's first key. It need not be the maximum, only near it: it stays while no term reaches
// 2, and what is summed is multiplied only when it rises.
struct RowState {
  float m[2];
  float l[2];
};

// s becomes cap * tanh(s), without the factor cap.
template <int kCount>
__device__ __forceinline__ void cap_logits(float inner, float (&s)[kCount]) {
  const float factor = 2.0F * kLog2E * inner;
#pragma unroll
  for (int i = 0; i < kCount; ++i) s[i] = 1.0F - __fdividef(2.0F, exp2_approx(s[i] * factor) + 1.0F);
}

// 2^x by multiplications and additions, to 1e-4; exactly 0 from -127 down, 2^127 from 127 up.
__device__ __forceinline__ float exp2_polynomial(float x) {
  constexpr float kToWhole = 12582912.0F;  // 1.5 * 2^23: the sum's last bits hold the whole number
  const float y = fminf(fmaxf(x, -127.0F), 127.0F);
  const float shifted = y + kToWhole;
  const float rest = y - (shifted - kToWhole);  // -0.5 to 0.5
  float value = __fmaf_rn(rest, 0.05543110F, 0.24232409F);
  value = __fmaf_rn(rest, value, 0.69324857F);
  value = __fmaf_rn(rest, value, 1.0F);
  return __uint_as_float(__float_as_uint(value) + (__float_as_uint(shifted) << 23));
}

// A row's terms 2^(cap s - m), packed as left operand of a product, and their sum. Keys beyond the first
// kKeys have none.
struct RowTerms {
  float sum;
  uint32_t bits;  // of all terms, together
  // A bf16 of 2 or more, or NaN, and none below has this bit.
  __device__ __forceinline__ bool too_large() const { return (bits & 0x40004000U) != 0; }
};

template <int kKeys, int kPolynomialEvery, int kWords>
__device__ __forceinline__ RowTerms exponentiate(int i, float cap, float m, const float (&s)[kKeys / 2],
                                                 uint32_t (&p)[kWords]) {
  RowTerms terms{0.0F, 0};
#pragma unroll
  for (int j = 0; j < kWords / 2; ++j) {
    uint32_t& word = p[2 * j + i];
    if (j >= kKeys / 8) {
      word = 0;
      continue;
    }
    float term[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float exponent = __fmaf_rn(s[4 * j + 2 * i + e], cap, -m);
      const bool polynomial = kPolynomialEvery > 0 && (2 * j + e) % kPolynomialEvery == 0;
      term[e] = polynomial ? exp2_polynomial(exponent) : exp2_approx(exponent);
      terms.sum += term[e];
    }
    word = pack_bf16(term[0], term[1]);
    terms.bits |= word;
  }
  return terms;
}

// The m that a row's logits ask for: their largest term becomes 2^-60, so it rises next for a logit that is
// 61 larger, and terms of less than 2^-66 of the largest are lost. Of a row that sees no key, -inf.
template <int kKeys>
__device__ __forceinline__ float reference_of(int i, float cap, const float (&s)[kKeys / 2]) {
  constexpr float kRoom = 60.0F;
  float top = -INFINITY;
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j) top = fmaxf(top, fmaxf(s[4 * j + 2 * i], s[4 * j + 2 * i + 1]));
  top = fmaxf(top, __shfl_xor_sync(~0U, top, 1));
  top = fmaxf(top, __shfl_xor_sync(~0U, top, 2));
  return top * cap + kRoom;
}

// Any of a row's four lanes.
__device__ __forceinline__ bool any_of_row(bool value) {
  int any = value ? 1 : 0;
  any |= __shfl_xor_sync(~0U, any, 1);
  any |= __shfl_xor_sync(~0U, any, 2);
  return any != 0;
}

// The terms of an item's first block.
template <int kKeys, int kPolynomialEvery, int kWords>
__device__ __forceinline__ void start_rows(float cap, const float (&s)[kKeys / 2], RowState& state,
                                           uint32_t (&p)[kWords]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    state.l[i] = exponentiate<kKeys, kPolynomialEvery>(i, cap, finite_or_zero(state.m[i]), s, p).sum;
  }
}

// Of a later one; o is what the terms before have summed. A row's results depend on the row alone: the warp
// takes the long way when one of its rows must, and the others pass it unchanged.
template <int kKeys, int kPolynomialEvery, int kWords, int kCount>
__device__ __forceinline__ void continue_rows(float cap, const float (&s)[kKeys / 2], RowState& state,
                                              uint32_t (&p)[kWords], float (&o)[kCount]) {
  RowTerms terms[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) terms[i] = exponentiate<kKeys, kPolynomialEvery>(i, cap, state.m[i], s, p);
  if (__any_sync(~0U, terms[0].too_large() || terms[1].too_large())) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float before = state.m[i];
      const float wanted = reference_of<kKeys>(i, cap, s);
      if (any_of_row(terms[i].too_large())) state.m[i] = wanted;
      const float m = finite_or_zero(state.m[i]);
      const float keep = exp2_approx(before - m);  // exactly 1 when m stays; 0 before the first key
      terms[i] = exponentiate<kKeys, kPolynomialEvery>(i, cap, m, s, p);
      state.l[i] *= keep;
#pragma unroll
      for (int n = 0; n < kCount / 4; ++n) {
        o[4 * n + 2 * i] *= keep;
        o[4 * n + 2 * i + 1] *= keep;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) state.l[i] += terms[i].sum;
}

// Rows of V that hold no keys of the item become zero: their probabilities are, but zero times the NaN that
// may lie there is not. The rows of a block that count are [begin, end). By a whole warpgroup.
template <int kD>
__device__ __forceinline__ void clear_values(uint8_t* block, int begin, int end, uint32_t barrier) {
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
  named_barrier_sync(barrier, 128);
}

// Two lanes, even and odd, have two words each; the even one gets both first words, the odd one both second
// ones.
__device__ __forceinline__ uint2 transpose_pair(uint32_t first, uint32_t second) {
  const bool odd = threadIdx.x % 2 != 0;
  const uint32_t far = __shfl_xor_sync(~0U, odd ? first : second, 1);
  return odd ? uint2{far, second} : uint2{first, far};
}

// Normalises and writes the rows that exist.
template <int kD>
__device__ __forceinline__ void write_rows(const PrefillParams& params, const PrefillItem& item,
                                           int first_row, const RowState& state, float (&o)[kD / 2]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float l = state.l[i];
    l += __shfl_xor_sync(~0U, l, 1);
    l += __shfl_xor_sync(~0U, l, 2);
    const RowPosition at = row_position(params, first_row + 8 * i);
    const bool exists = at.token < item.num_tokens;
    const int head = item.head * params.group + at.head;
    const float sink = params.sinks != nullptr && exists ? params.sinks[head] : -INFINITY;
    const FinalWeights final = finish_state({state.m[i], l}, sink);
    const int64_t row = item.q_row + at.token;
    uint16_t* out = params.out + row * params.out_stride + head * kD;
    // Blocks of eight columns, two at a time: a row's four lanes write 32 bytes that lie together.
#pragma unroll
    for (int j = 0; j < kD / 8; j += 2) {
      uint32_t words[2];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const int first = 4 * (j + n) + 2 * i;
        words[n] = pack_bf16(o[first] * final.weight, o[first + 1] * final.weight);
      }
      const uint2 mine = transpose_pair(words[0], words[1]);
      if (exists) *reinterpret_cast<uint2*>(out + 8 * (j + t % 2) + 4 * (t / 2)) = mine;
    }
    if (exists && t == 0 && params.lse != nullptr) params.lse[row * params.num_heads + head] = final.lse;
  }
}

}  // namespace bifocal::kernels::cuda
