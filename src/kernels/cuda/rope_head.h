// A head of a token in a warp: bias, norm and rotation in registers, every operation rounded as written, so
// that all kernels that do it have the same bits.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/elementwise.h"

namespace bifocal::kernels::cuda {

// cos and sin of position * inv_freq: whole turns are taken off in double.
__device__ __forceinline__ void rope_angle(const RopeKv& args, int token, int pair, float* cosine,
                                           float* sine) {
  constexpr double kInversePi = 0.318309886183790671538;
  const double half_turns =
      static_cast<double>(args.positions[token]) * static_cast<double>(args.inv_freq[pair]) * kInversePi;
  sincospif(static_cast<float>(half_turns - 2.0 * rint(half_turns * 0.5)), sine, cosine);
  *cosine *= args.attention_factor;
  *sine *= args.attention_factor;
}

// One dim of a pair; its partner, with the sign that the rotation gives it.
__device__ __forceinline__ float rotated(float x, float signed_partner, float cosine, float sine) {
  return __fmaf_rn(signed_partner, sine, __fmul_rn(x, cosine));
}

// Lane i has dims [i * kPer, (i + 1) * kPer).
template <int kD>
struct HeadLane {
  static constexpr int kPer = kD / 32;
  static constexpr int kWords = kPer / 2;
  struct alignas(2 * kPer) Bits {
    uint32_t words[kWords];
  };

  __device__ static int first_dim() { return static_cast<int>(threadIdx.x) % 32 * kPer; }
  __device__ static Bits load(const uint16_t* head) {
    return *reinterpret_cast<const Bits*>(head + first_dim());
  }
  // Past the L1, which may hold what lay there before.
  __device__ static Bits load_fresh(const uint16_t* head) {
    Bits bits;
    const auto* from = reinterpret_cast<const uint32_t*>(head + first_dim());
    if constexpr (kWords == 1) {
      bits.words[0] = __ldcg(from);
    } else if constexpr (kWords == 2) {
      const uint2 words = __ldcg(reinterpret_cast<const uint2*>(from));
      bits = {{words.x, words.y}};
    } else {
      const uint4 words = __ldcg(reinterpret_cast<const uint4*>(from));
      bits = {{words.x, words.y, words.z, words.w}};
    }
    return bits;
  }
  __device__ static void store(uint16_t* head, const Bits& bits) {
    *reinterpret_cast<Bits*>(head + first_dim()) = bits;
  }
  __device__ static void unpack(const Bits& bits, float (&x)[kPer]) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      x[2 * i] = bf16_low(bits.words[i]);
      x[2 * i + 1] = bf16_high(bits.words[i]);
    }
  }
  __device__ static Bits pack(const float (&x)[kPer]) {
    Bits bits;
#pragma unroll
    for (int i = 0; i < kWords; ++i) bits.words[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
    return bits;
  }

  // The head as the product left it, and its bias: head counts queries, keys and values.
  __device__ static void add_bias(const RopeKv& args, int head, float (&x)[kPer]) {
    if (args.bias == nullptr) return;
    float bias[kPer];
    unpack(load(args.bias + head * kD), bias);
#pragma unroll
    for (int e = 0; e < kPer; ++e) x[e] += bias[e];
  }
  __device__ static void normalise(const uint16_t* weights, float eps, float (&x)[kPer]) {
    if (weights == nullptr) return;
    float sum = 0.0F;
#pragma unroll
    for (int e = 0; e < kPer; ++e) sum = __fmaf_rn(x[e], x[e], sum);
    const float scale = rsqrtf(warp_sum(sum) / static_cast<float>(kD) + eps);
    float weight[kPer];
    unpack(load(weights), weight);
#pragma unroll
    for (int e = 0; e < kPer; ++e) x[e] = __fmul_rn(x[e], __fmul_rn(scale, weight[e]));
  }
};

}  // namespace bifocal::kernels::cuda
