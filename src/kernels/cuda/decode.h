// Decode attention on the GPU: one plan per step and attention class, one run per layer.
//
// out[row, h] = softmax over the row's keys of softcap(scale q.k) times V, optionally with a sink in the
// denominator. A sequence has q_len query rows (1 in decode, a few in verify); the last one sees all kv_len
// keys.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/kv_maps.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

// What is fixed for an attention class.
struct DecodeDesc {
  int num_heads = 0;     // H, a multiple of HK
  int num_kv_heads = 0;  // HK
  int head_dim = 0;      // D: 64, 128 or 256
  int page_size = 64;    // S, a power of two from kTileTokens up
  int q_len = 1;         // query rows of a sequence; q_len * H / HK at most max_decode_rows(D)
  int window = 0;        // keys that a row sees, its own included; 0: all
  float softcap = 0.0F;  // 0: none
  float scale = 1.0F;
  SpanRule spans;  // default_span_rule(num_kv_heads), unless a test asks for another
};

// Query rows of a KV head, q_len * H / HK.
constexpr int max_decode_rows(int head_dim) {
  return head_dim == 256 ? 8 : 16;
}
constexpr int kMaxDecodeSeqs = 1024;
constexpr int kMaxDecodeParts = 255;

struct DecodeLimits {
  int max_seqs = 0;
  int max_kv_len = 0;
  int max_rounds =
      1;  // plans that exist beside each other; they share the partial states, and so run in turn
};

// Records of fixed size at fixed addresses; plan_decode rewrites all of them.
struct DecodeBuffers {
  DecodeLimits limits;
  int num_parts = 0;   // groups of HK CTAs, one CTA for each SM
  DeviceMemory parts;  // DecodePart [max_rounds, num_parts]
  DeviceMemory seqs;   // DecodeSequence [max_rounds, max_seqs]
  int max_slots_of_seq = 0;
  int64_t max_slots = 0;  // of all sequences that parts may share
  // f32 [max_slots, HK, rows, D], unnormalised O; then [.., rows, D / 16, 2], (m, l). Unwritten words hold
  // the mark (decode_partials.h), and do so again when a run has ended.
  DeviceMemory partials;
};

Expected<DecodeBuffers> make_decode_buffers(const DecodeDesc& desc, const DecodeLimits& limits);

// Device arrays at fixed addresses. Their contents may change between a graph's replays; num_seqs may not.
struct DecodeBatch {
  int num_seqs = 0;                  // B
  const int32_t* kv_len = nullptr;   // [B]; 0 is legal: the rows become zero
  const int32_t* q_begin = nullptr;  // [B] first query row; null: first_row + b * q_len
  int first_row = 0;
  const int32_t* page_table = nullptr;  // [rows, page_table_stride]
  int64_t page_table_stride = 0;
  const int32_t* table_row = nullptr;  // [B] row of the page table; null: b
  int round = 0;                       // below max_rounds
};

struct DecodePlan {
  DecodeDesc desc;
  DecodeBatch batch;
  const DecodeBuffers* buffers = nullptr;
};

struct RopeKv;

struct DecodeLayer {
  // Or null: q and all keys are there. Otherwise q and each sequence's last key and value come from qkv, as
  // rope_kv would make them; its q is neither written nor read, its k and v are this layer's.
  const RopeKv* rotation = nullptr;
  const uint16_t* q = nullptr;  // bf16 [T, H, D], token stride q_stride; 16-byte aligned
  int64_t q_stride = 0;
  const KvMaps* kv = nullptr;
  int32_t first_page = 0;   // of this layer among all pages that kv maps
  uint16_t* out = nullptr;  // bf16 [T, H, D], token stride out_stride
  int64_t out_stride = 0;
  const float* sinks = nullptr;  // f32 [H] or null
  float* lse = nullptr;          // f32 [T, H]: natural log of the denominator, sinks included; or null
};

// Launches the plan kernel. Reads device memory only on the device; capturable.
Expected<DecodePlan> plan_decode(const DecodeDesc& desc, const DecodeBatch& batch, DecodeBuffers& buffers,
                                 const LaunchOptions& launch);

// Whether attention can rotate: one query row of a sequence, pairs that lie in one lane or in the same place
// of two.
bool decode_rotates(const DecodeDesc& desc, const RopeKv& rotation);

// Launches the attention kernel. Never allocates, never synchronises; capturable.
Status run_decode(const DecodePlan& plan, const DecodeLayer& layer, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
