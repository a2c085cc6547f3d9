// What becomes of finished sums: bias, residual or gate, one rounding, and the turn to rows of the result.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/skinny_gemm_work.h"

namespace bifocal::kernels::cuda::skinny {

// Of a tile and eight tokens, lane 4g + t of warp w has rows 16w + g (values x, y) and 16w + 8 + g (z, w) of
// tokens 2t and 2t + 1.
template <Result kResult>
class Finisher {
 public:
  explicit __device__ Finisher(const Params& params) : params_(params) {}

  // The tile's first unit and how many it has; the first of the tokens.
  __device__ void finish(const float4& sums, int begin, int units, int token) const {
    if constexpr (kResult == Result::gated) {
      if (warp() >= units) return;
      const int column = (begin + warp()) * kGroupRows + lane() / 4;
      const float gate_bias = bias(column);
      const float up_bias = bias(params_.n + column);
      store(begin + warp(), token, silu(sums.x + gate_bias) * (sums.z + up_bias),
            silu(sums.y + gate_bias) * (sums.w + up_bias));
    } else {
      if (2 * warp() < units) finish_unit(begin + 2 * warp(), token, sums.x, sums.y);
      if (2 * warp() + 1 < units) finish_unit(begin + 2 * warp() + 1, token, sums.z, sums.w);
    }
  }

 private:
  __device__ static int warp() { return static_cast<int>(threadIdx.x) % 128 / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  __device__ float bias(int column) const {
    return params_.bias == nullptr ? 0.0F : bf16_to_float(__ldg(params_.bias + column));
  }

  // Two neighbouring columns of one token.
  __device__ uint32_t pair_at(int unit, int token) const {
    return static_cast<uint32_t>((token + lane() / 4) * params_.n + unit * kGroupRows + lane() % 4 * 2);
  }

  __device__ void finish_unit(int unit, int token, float a, float b) const {
    const int column = unit * kGroupRows + lane() / 4;
    if constexpr (kResult == Result::f32) {
      const int first = token + 2 * (lane() % 4);
      auto* out = static_cast<float*>(params_.out) + static_cast<uint32_t>(first * params_.n + column);
      if (first < params_.m) out[0] = a;
      if (first + 1 < params_.m) out[params_.n] = b;
    } else {
      const float added = bias(column);
      a += added;
      b += added;
      if (params_.residual != nullptr) {
        const bool present = token + lane() / 4 < params_.m;
        const uint32_t pair = movmatrix_trans(
            present ? *reinterpret_cast<const uint32_t*>(params_.residual + pair_at(unit, token)) : 0);
        a += bf16_low(pair);
        b += bf16_high(pair);
      }
      store(unit, token, a, b);
    }
  }

  // Eight columns by eight tokens turned around, so that neighbouring columns are stored together.
  __device__ void store(int unit, int token, float a, float b) const {
    const uint32_t pair = movmatrix_trans(pack_bf16(a, b));
    if (token + lane() / 4 >= params_.m) return;
    *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(params_.out) + pair_at(unit, token)) = pair;
  }

  const Params& params_;
};

}  // namespace bifocal::kernels::cuda::skinny
