// The state of an online softmax and how two states become one.
//
// The reference m of a state is a whole number, not less than any of its logits: moving a state to another
// reference multiplies by a power of two, which rounds nothing. So the sum over states in index order has the
// same bits whether the references were known before or met on the way, and however many states were summed
// before.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {

constexpr float kLog2E = 1.4426950408889634F;
constexpr float kLn2 = 0.6931471805599453F;

// Over some keys: l = sum of 2^(logit - m), logits in base-2 units. No keys: (-inf, 0).
struct SoftmaxState {
  float m;
  float l;
  __device__ float2 as_float2() const { return {m, l}; }
};

// What to subtract from logits whose reference is m: an empty state must give 2^(-inf) = 0, not NaN.
__device__ __forceinline__ float finite_or_zero(float m) {
  return m == -INFINITY ? 0.0F : m;
}

// 2^(from - to) for whole numbers from <= to, exactly; 0 for an empty state and below 2^-126.
__device__ __forceinline__ float move_weight(float from, float to) {
  constexpr float kBiasedWhole = 12582912.0F + 127.0F;  // 1.5 * 2^23: the sum's last bits are the exponent's
  const float exponent = fmaxf(from - finite_or_zero(to), -127.0F);
  return __uint_as_float(__float_as_uint(exponent + kBiasedWhole) << 23);
}

__device__ __forceinline__ void accumulate(float4& o, const float4& value, float weight) {
  o.x = __fmaf_rn(value.x, weight, o.x);
  o.y = __fmaf_rn(value.y, weight, o.y);
  o.z = __fmaf_rn(value.z, weight, o.z);
  o.w = __fmaf_rn(value.w, weight, o.w);
}

// (s, o) becomes the state over both sets of keys; o is unnormalised: the sum of 2^(logit - m) v.
__device__ __forceinline__ void fold_state(SoftmaxState& s, float4& o, const SoftmaxState& next,
                                           const float4& next_o) {
  const float m = fmaxf(s.m, next.m);
  const float weight = move_weight(s.m, m);
  const float next_weight = move_weight(next.m, m);
  s = {m, __fmaf_rn(next.l, next_weight, s.l * weight)};
  o = {o.x * weight, o.y * weight, o.z * weight, o.w * weight};
  accumulate(o, next_o, next_weight);
}

struct FinalWeights {
  float weight;  // multiplies the unnormalised O
  float lse;     // natural logarithm of the denominator
};

// sink: a logit that joins the denominator alone, natural units; -inf for none. No keys: weight 0.
__device__ __forceinline__ FinalWeights finish_state(const SoftmaxState& s, float sink) {
  const float sink2 = sink * kLog2E;
  const float m = finite_or_zero(fmaxf(s.m, sink2));
  const float scale = exp2_approx(s.m - m);
  const float sum = __fmaf_rn(s.l, scale, exp2_approx(sink2 - m));
  if (sum == 0.0F) return {0.0F, -INFINITY};
  return {__fdividef(scale, sum), (m + __log2f(sum)) * kLn2};
}

}  // namespace bifocal::kernels::cuda
