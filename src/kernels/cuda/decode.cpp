#include "kernels/cuda/decode.h"

#include <algorithm>
#include <bit>
#include <string>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/unwritten_byte.h"

namespace bifocal::kernels::cuda {
namespace {

Status check_desc(const DecodeDesc& desc) {
  if (desc.num_kv_heads <= 0 || desc.num_heads <= 0 || desc.num_heads % desc.num_kv_heads != 0) {
    return invalid_argument("decode on the GPU: heads must be a multiple of KV heads, got " +
                            std::to_string(desc.num_heads) + "/" + std::to_string(desc.num_kv_heads));
  }
  if (desc.head_dim != 64 && desc.head_dim != 128 && desc.head_dim != 256) {
    return unsupported("decode on the GPU: head dim must be 64, 128 or 256, got " +
                       std::to_string(desc.head_dim));
  }
  if (desc.page_size < kTileTokens || !std::has_single_bit(static_cast<unsigned>(desc.page_size))) {
    return unsupported("decode on the GPU: page size must be a power of two from " +
                       std::to_string(kTileTokens) + " up, got " + std::to_string(desc.page_size));
  }
  const int rows = desc.q_len * (desc.num_heads / desc.num_kv_heads);
  if (desc.q_len <= 0 || rows > max_decode_rows(desc.head_dim)) {
    return unsupported("decode on the GPU: query rows per KV head must be 1 to " +
                       std::to_string(max_decode_rows(desc.head_dim)) + ", got " + std::to_string(rows));
  }
  if (desc.window < 0) return invalid_argument("decode on the GPU: negative window");
  return {};
}

}  // namespace

int page_tiles_log2(const DecodeDesc& desc) {
  return std::countr_zero(static_cast<unsigned>(desc.page_size / kTileTokens));
}

int padded_rows(const DecodeDesc& desc) {
  return desc.q_len * (desc.num_heads / desc.num_kv_heads) <= 8 ? 8 : 16;
}

bool decode_rotates(const DecodeDesc& desc, const RopeKv& rotation) {
  const int lane_dims = desc.head_dim / 32;
  return desc.q_len == 1 && rotates_rows(desc.head_dim, padded_rows(desc)) &&
         (rotation.interleaved || rotation.rotary_dim / 2 % lane_dims == 0);
}

Expected<DecodeBuffers> make_decode_buffers(const DecodeDesc& desc, const DecodeLimits& limits) {
  BIFOCAL_RETURN_IF_ERROR(check_desc(desc));
  if (limits.max_seqs <= 0 || limits.max_seqs > kMaxDecodeSeqs || limits.max_kv_len <= 0 ||
      limits.max_rounds <= 0) {
    return invalid_argument("decode on the GPU: limits must be 1 to " + std::to_string(kMaxDecodeSeqs) +
                            " sequences of at least one key, and at least one round");
  }
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceTraits device, current_device());
  DecodeBuffers buffers;
  buffers.limits = limits;
  buffers.num_parts = std::clamp(device.num_sms / desc.num_kv_heads, 1, kMaxDecodeParts);
  // Every boundary between two parts cuts at most one sequence, which has at most rule.max_spans spans, or as
  // many as there are of the longest kind.
  const auto spans_of = [&](int log2) {
    return static_cast<int>((int64_t{limits.max_kv_len} + (int64_t{1} << log2) - 1) >> log2);
  };
  buffers.max_slots_of_seq =
      std::max(std::min(desc.spans.max_spans, spans_of(desc.spans.min_log2)), spans_of(desc.spans.max_log2)) +
      1;
  buffers.max_slots = int64_t{buffers.num_parts} * buffers.max_slots_of_seq;
  const auto bytes = [](int64_t count, size_t size) { return static_cast<size_t>(count) * size; };
  const int64_t slot_floats =
      int64_t{desc.num_kv_heads} * padded_rows(desc) * (desc.head_dim + 2 * (desc.head_dim / kPacketDims));
  BIFOCAL_ASSIGN_OR_RETURN(
      buffers.parts,
      DeviceMemory::allocate(bytes(int64_t{limits.max_rounds} * buffers.num_parts, sizeof(DecodePart))));
  BIFOCAL_ASSIGN_OR_RETURN(
      buffers.seqs,
      DeviceMemory::allocate(bytes(int64_t{limits.max_rounds} * limits.max_seqs, sizeof(DecodeSequence))));
  BIFOCAL_ASSIGN_OR_RETURN(buffers.partials,
                           DeviceMemory::allocate(bytes(buffers.max_slots * slot_floats, sizeof(float))));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemset(buffers.partials.as<void>(), kUnwrittenByte, buffers.partials.bytes()),
                "marking partial states"));
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaStreamSynchronize(nullptr), "marking partial states"));
  return buffers;
}

Status check_batch(const DecodeDesc& desc, const DecodeBatch& batch, const DecodeBuffers& buffers) {
  BIFOCAL_RETURN_IF_ERROR(check_desc(desc));
  if (batch.num_seqs < 0 || batch.num_seqs > buffers.limits.max_seqs) {
    return internal_error("decode plan: " + std::to_string(batch.num_seqs) + " sequences, but buffers for " +
                          std::to_string(buffers.limits.max_seqs));
  }
  if (batch.round < 0 || batch.round >= buffers.limits.max_rounds) {
    return internal_error("decode plan: round " + std::to_string(batch.round) + ", but buffers for " +
                          std::to_string(buffers.limits.max_rounds));
  }
  return {};
}

DecodePart* parts_of_round(const DecodeBuffers& buffers, int round) {
  return buffers.parts.as<DecodePart>() + int64_t{round} * buffers.num_parts;
}

DecodeSequence* seqs_of_round(const DecodeBuffers& buffers, int round) {
  return buffers.seqs.as<DecodeSequence>() + int64_t{round} * buffers.limits.max_seqs;
}

}  // namespace bifocal::kernels::cuda
