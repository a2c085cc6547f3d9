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
// page * page_size + token in page. v may be null where the values are part of the keys.
void write_kv(const float* k, int64_t k_stride, const float* v, int64_t v_stride, const int64_t* slots,
              int64_t num_tokens, const PagedKv& kv, ThreadPool& pool);

// Keys as they lie in the cache, in f32: out[i] is token first + i of the sequence whose pages these are, KV
// head 0.
void gather_keys(const PagedKv& kv, const int32_t* pages, int64_t first, int64_t num_tokens, float* out,
                 int64_t out_stride, ThreadPool& pool);

// Keys and values of every head from what multi-head latent attention keeps of a token: head h's key is its
// part of `up` without position and, behind it, the rotated key that all heads share; its value is the rest
// of its part of `up`.
struct ExpandedKvArgs {
  const float* up = nullptr;  // [T, HK, (Dk - rope_dim) + Dv], token stride up_stride
  int64_t up_stride = 0;
  const float* rope = nullptr;  // [T, rope_dim], token stride rope_stride
  int64_t rope_stride = 0;
  int rope_dim = 0;
  int64_t first_slot = 0;  // token i goes to slot first_slot + i
  int64_t num_tokens = 0;
};
void write_expanded_kv(const ExpandedKvArgs& args, const PagedKv& kv, ThreadPool& pool);

}  // namespace bifocal::kernels::cpu
