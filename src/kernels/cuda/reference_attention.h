// Attention on the GPU the obvious way, in double: what the fast kernels are compared with. Slow.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/status.h"

namespace bifocal::kernels::cuda {

// All pointers are device memory. Layouts and conventions as in decode.h; q_len differs from sequence to
// sequence.
struct ReferenceAttention {
  int num_seqs = 0;                     // B
  int max_q_len = 0;                    // of any sequence
  const int32_t* q_begin = nullptr;     // [B] first query row
  const int32_t* q_len = nullptr;       // [B]
  const int32_t* kv_len = nullptr;      // [B]; the last query sees all of them
  const int32_t* page_table = nullptr;  // [B, page_table_stride]
  int64_t page_table_stride = 0;
  const uint16_t* q = nullptr;  // bf16 [T, H, D]
  const uint16_t* k =
      nullptr;  // bf16, element (p, h, t, d) at p*page_stride + h*head_stride + t*token_stride + d
  const uint16_t* v = nullptr;
  int64_t page_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  int page_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;
  float softcap = 0.0F;
  float scale = 1.0F;
  const float* sinks = nullptr;  // [H] or null
  float* out = nullptr;          // f32 [T, H, D]
  float* lse = nullptr;          // f32 [T, H] or null
};

Status run_reference_attention(const ReferenceAttention& args, cudaStream_t stream);

}  // namespace bifocal::kernels::cuda
