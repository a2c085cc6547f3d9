// What stands between the matrix products of a layer. Activations and weights are bf16, sums f32; each row is
// computed alone and in one order, so results do not depend on the batch. T rows (tokens), rows contiguous
// unless a stride is given; pointers are device memory, 16-byte aligned, and row widths multiples of 8.
//
// No launcher allocates or synchronises; all can be captured. An error is internal_error from the launch or
// invalid_argument / unsupported for shapes that the kernel does not serve.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

// out[i] = table[ids[i]]: embeddings of tokens, or the rows whose logits are wanted. With `chosen`, an id of
// kFirstChosen - r stands for chosen[r] (kernels/chosen_token.h). A row whose id lies outside of
// [0, table_rows) becomes zero, so padding is an id of -1.
struct GatherRows {
  const uint16_t* table = nullptr;  // bf16 [table_rows, dim]
  int64_t table_rows = 0;
  int dim = 0;
  const int32_t* ids = nullptr;     // [T]
  const int32_t* chosen = nullptr;  // or null: no id stands for another
  int num_rows = 0;                 // T
  uint16_t* out = nullptr;          // bf16 [T, dim]
};
Status gather_rows(const GatherRows& args, const LaunchOptions& launch);

// out[t] = r * rsqrt(mean(r^2) + eps) * w with r = residual[t], to which x[t] is added first where x is
// given. The residual is bf16, as transformers keeps it: f32 would double the bytes of the largest
// activation, and its sum is rounded once per block either way.
struct RmsNorm {
  uint16_t* residual = nullptr;  // bf16 [T, dim]; rewritten where x is given
  const uint16_t* x = nullptr;   // bf16 [T, dim] or null
  const uint16_t* w = nullptr;   // bf16 [dim]
  uint16_t* out = nullptr;       // bf16 [T, dim]; may be x
  float eps = 0.0F;
  int num_rows = 0;  // T
  int dim = 0;       // a multiple of 8, at most 16384
};
Status rms_norm(const RmsNorm& args, const LaunchOptions& launch);

// What turns the product of the q, k and v projections into queries and cache entries: bias, norm of each q
// and k head, rotation, and the copy of K and V into the pages.
//
// Angles are position * inv_freq[j], reduced to one turn in double; cos and sin are multiplied by
// attention_factor. Pair j is (j, j + rotary_dim/2), or (2j, 2j + 1) where interleaved; dims from rotary_dim
// on pass through.
struct RopeKv {
  const uint16_t* qkv = nullptr;     // bf16 [T, (H + 2 HK) D]
  const uint16_t* bias = nullptr;    // bf16 [(H + 2 HK) D] or null
  const uint16_t* q_norm = nullptr;  // bf16 [D] or null
  const uint16_t* k_norm = nullptr;  // bf16 [D] or null
  float norm_eps = 0.0F;
  const float* inv_freq = nullptr;  // f32 [rotary_dim / 2]
  int rotary_dim = 0;               // even, at most D
  bool interleaved = false;
  float attention_factor = 1.0F;
  const int32_t* positions = nullptr;  // [T]
  const int64_t* kv_slots = nullptr;   // [T] page * S + token in page; -1: no K and V are written
  int num_tokens = 0;                  // T
  int num_heads = 0;                   // H
  int num_kv_heads = 0;                // HK
  int head_dim = 0;                    // D: 64, 128 or 256
  int page_size = 0;                   // S
  uint16_t* q = nullptr;               // bf16 [T, H, D]
  uint16_t* k = nullptr;               // bf16 [P, HK, S, D]
  uint16_t* v = nullptr;               // bf16 [P, HK, S, D]
};
Status rope_kv(const RopeKv& args, const LaunchOptions& launch);

// out[t, i] = silu(gate_up[t, i]) * gate_up[t, I + i]
struct SiluMul {
  const uint16_t* gate_up = nullptr;  // bf16 [T, 2 I]
  uint16_t* out = nullptr;            // bf16 [T, I]
  int num_rows = 0;                   // T
  int dim = 0;                        // I
};
Status silu_mul(const SiluMul& args, const LaunchOptions& launch);

// Word i of data becomes (mix64(key + i) & random_mask) | constant: the random weights of weights/dummy.h.
// num_bytes is a multiple of 2; of the last word, only its first bytes are written.
struct RandomFill {
  void* data = nullptr;  // 8-byte aligned
  int64_t num_bytes = 0;
  uint64_t key = 0;
  uint64_t random_mask = 0;
  uint64_t constant = 0;
};
Status random_fill(const RandomFill& args, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
