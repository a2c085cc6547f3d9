// The arithmetic of engine/logits.h on the device: the same operations in the same order, so the same bits.
// No sum here may be contracted into a fused multiply-add, hence the intrinsics.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace bifocal::kernels::cuda {

constexpr int kLogitBlock = 128;
constexpr int32_t kInvalidKey = 0x7FFFFFFF;  // above every number's
constexpr int32_t kInfinityKey = 0x7F800000;
constexpr int32_t kMinusInfinityKey = static_cast<int32_t>(0x807FFFFFU);

// An integer that orders as the float does; both zeros are one. NaNs lie outside of the infinities' keys.
__device__ __forceinline__ int32_t order_key(float x) {
  const int32_t bits = __float_as_int(__fadd_rn(x, 0.0F));
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
__device__ __forceinline__ float from_order_key(int32_t key) {
  return __int_as_float(key ^ ((key >> 31) & 0x7FFFFFFF));
}

// Place of a logit in the order of candidates: larger is better, equals by lower id.
__device__ __forceinline__ uint64_t rank_of(int32_t key, int token) {
  return static_cast<uint64_t>(static_cast<uint32_t>(key) ^ 0x80000000U) << 32 |
         (0xFFFFFFFFU - static_cast<uint32_t>(token));
}
__device__ __forceinline__ int token_of(uint64_t rank) {
  return static_cast<int>(0xFFFFFFFFU - static_cast<uint32_t>(rank));
}
__device__ __forceinline__ float logit_of(uint64_t rank) {
  return from_order_key(static_cast<int32_t>(static_cast<uint32_t>(rank >> 32) ^ 0x80000000U));
}

// exp((logit - max) * scale); Cephes' expf coefficients, exactly 0 below -87.
__device__ __forceinline__ float exp_term(float logit, float max, float scale) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float x = __fmul_rn(__fsub_rn(logit, max), scale);
  if (!(x >= -87.0F)) return 0.0F;
  const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504088896341F), kRound);
  const float n = __fsub_rn(shifted, kRound);
  const float r = __fsub_rn(__fsub_rn(x, __fmul_rn(n, 0.693359375F)), __fmul_rn(n, -2.12194440e-4F));
  float p = 1.9875691500e-4F;
  p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3F);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3F);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2F);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1F);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1F);
  p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0F);
  const int32_t exponent = __float_as_int(shifted) - __float_as_int(kRound) + 127;
  return __fmul_rn(p, __int_as_float(static_cast<int32_t>(static_cast<uint32_t>(exponent) << 23)));
}

// The sum of a block's kLogitBlock terms; lane i brings terms i, i + 32, i + 64 and i + 96.
__device__ __forceinline__ float block_terms_sum(const float (&terms)[4]) {
  float sum = __fadd_rn(__fadd_rn(terms[0], terms[2]), __fadd_rn(terms[1], terms[3]));
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    sum = __fadd_rn(sum, __shfl_down_sync(0xFFFFFFFFU, sum, offset));
  }
  return __shfl_sync(0xFFFFFFFFU, sum, 0);
}

}  // namespace bifocal::kernels::cuda
