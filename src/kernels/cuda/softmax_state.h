// The state of an online softmax and how two states become one. Every fold on the GPU goes through these
// functions: with the rounding of each operation spelt out, the same states folded in the same order give the
// same bits wherever it happens.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/cuda/ptx.h"

namespace bifocal::kernels::cuda {

constexpr float kLog2E = 1.4426950408889634F;
constexpr float kLn2 = 0.6931471805599453F;

// Over some keys: m = max of the logits in base-2 units, l = sum of 2^(logit - m). No keys: (-inf, 0).
struct SoftmaxState {
  float m;
  float l;
  __device__ float2 as_float2() const { return {m, l}; }
};

// What to subtract from logits whose maximum is m: an empty state must give 2^(-inf) = 0, not NaN.
__device__ __forceinline__ float finite_or_zero(float m) {
  return m == -INFINITY ? 0.0F : m;
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
  const float weight = exp2_approx(s.m - finite_or_zero(m));
  const float next_weight = exp2_approx(next.m - finite_or_zero(m));
  s = {m, __fmaf_rn(next.l, next_weight, __fmul_rn(s.l, weight))};
  o = {__fmul_rn(o.x, weight), __fmul_rn(o.y, weight), __fmul_rn(o.z, weight), __fmul_rn(o.w, weight)};
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
  return {__fdividef(scale, sum), (m + log2f(sum)) * kLn2};
}

}  // namespace bifocal::kernels::cuda
