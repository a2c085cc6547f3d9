// Row-wise operations between the matrix products. All take and give f32; each row is computed alone, so
// results do not depend on the batch. T rows (tokens).
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/paged_kv.h"

namespace bifocal::kernels::cpu {

// y[t] = x[t] * rsqrt(mean(x[t]^2) + eps) * w, rows of `dim` values at the given strides. y may be x.
void rms_norm(const float* x, int64_t x_stride, const float* w, float eps, int64_t num_rows, int64_t dim,
              float* y, int64_t y_stride, ThreadPool& pool);

enum class RopeStyle { half, interleaved };

// Rotates `num_heads` heads of `head_dim` values per token in place. inv_freq [rotary_dim/2]; cos and sin are
// multiplied by attention_factor (YaRN). Angles are computed in double from position * inv_freq.
struct RopeArgs {
  float* x = nullptr;  // [T, heads, head_dim], token stride x_stride
  int64_t x_stride = 0;
  int num_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  RopeStyle style = RopeStyle::half;
  std::span<const float> inv_freq;
  float attention_factor = 1.0F;
  const int32_t* positions = nullptr;  // [T]
  int64_t num_tokens = 0;
};
void rope(const RopeArgs& args, ThreadPool& pool);

// out[t, i] = silu(gate_up[t, i]) * gate_up[t, dim + i]
void silu_mul(const float* gate_up, int64_t gate_up_stride, int64_t num_rows, int64_t dim, float* out,
              int64_t out_stride, ThreadPool& pool);

// GPT-OSS: with g = min(gate, limit) and u = up clamped to [-limit, limit],
// out[t, i] = (u + 1) * g * sigmoid(1.702 g); gate and up lie as for silu_mul.
void clamped_swiglu(const float* gate_up, int64_t gate_up_stride, int64_t num_rows, int64_t dim, float limit,
                    float* out, int64_t out_stride, ThreadPool& pool);

// Copies K [T, HK, Dk] and V [T, HK, Dv] rows into the pages, converting to the cache's dtype. slots[t] is
// page * page_size + token in page.
void write_kv(const float* k, int64_t k_stride, const float* v, int64_t v_stride, const int64_t* slots,
              int64_t num_tokens, const PagedKv& kv, ThreadPool& pool);

}  // namespace bifocal::kernels::cpu
