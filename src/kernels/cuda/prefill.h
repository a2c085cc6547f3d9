// Prefill attention on the GPU: many query tokens per sequence, causal, after any number of cached ones. One
// plan per step and attention class, one run per layer.
//
// out[row, h] = softmax over the row's keys of softcap(scale q.k) times V, optionally with a sink in the
// denominator. The last of a sequence's q_len query rows sees all kv_len keys, the one before one key less.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/kv_maps.h"
#include "kernels/cuda/prefill_plan.h"

namespace bifocal::kernels::cuda {

// What is fixed for an attention class.
struct PrefillDesc {
  int num_heads = 0;     // H, a multiple of HK; H / HK at most kPrefillRows
  int num_kv_heads = 0;  // HK
  int head_dim = 0;      // D: 64, 128 or 256
  int page_size = 64;    // S, a power of two from kTileTokens up
  int window = 0;        // keys that a row sees, its own included; 0: all
  float softcap = 0.0F;  // 0: none
  float scale = 1.0F;
};

struct PrefillLimits {
  int max_seqs = 0;
  int max_tokens = 0;  // query tokens of a step, all sequences together
};

// Records of fixed size at fixed addresses; plan_prefill rewrites all that the step needs.
struct PrefillBuffers {
  PrefillLimits limits;
  int num_sms = 0;
  int max_items = 0;
  DeviceMemory records;  // PrefillRecord [max_items], in the order in which CTAs take them
  DeviceMemory queue;    // PrefillQueue
};

Expected<PrefillBuffers> make_prefill_buffers(const PrefillDesc& desc, const PrefillLimits& limits);

// Device arrays at fixed addresses. Their contents may change between a graph's replays; num_seqs may not.
struct PrefillBatch {
  int num_seqs = 0;                     // B
  const int32_t* q_begin = nullptr;     // [B] first query row
  const int32_t* q_len = nullptr;       // [B] query rows; 0: the sequence has no work in this step
  const int32_t* kv_len = nullptr;      // [B] keys, those of the step's own tokens included
  const int32_t* page_table = nullptr;  // [B, page_table_stride]
  int64_t page_table_stride = 0;
};

struct PrefillPlan {
  PrefillDesc desc;
  PrefillBatch batch;
  const PrefillBuffers* buffers = nullptr;
};

struct PrefillLayer {
  const uint16_t* q = nullptr;  // bf16 [T, H, D], token stride q_stride, a multiple of 8; 16-byte aligned
  int64_t q_stride = 0;
  int num_tokens = 0;  // T: rows that exist at q
  const KvMaps* kv = nullptr;
  int32_t first_page = 0;   // of this layer among all pages that kv maps
  uint16_t* out = nullptr;  // bf16 [T, H, D], token stride out_stride, a multiple of 8; 16-byte aligned
  int64_t out_stride = 0;
  const float* sinks = nullptr;  // f32 [H] or null
  float* lse = nullptr;          // f32 [T, H]: natural log of the denominator, sinks included; or null
};

// Launches the plan kernel. Reads device memory only on the device; capturable.
Expected<PrefillPlan> plan_prefill(const PrefillDesc& desc, const PrefillBatch& batch,
                                   PrefillBuffers& buffers, const LaunchOptions& launch);

// Launches the attention kernel. Never allocates, never synchronises; capturable. Nothing is read before the
// kernel ahead has ended: LaunchOptions::early has no effect.
Status run_prefill(const PrefillPlan& plan, const PrefillLayer& layer, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
