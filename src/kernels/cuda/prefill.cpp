#include "kernels/cuda/prefill.h"

#include <bit>
#include <string>

namespace bifocal::kernels::cuda {
namespace {

Status check_desc(const PrefillDesc& desc) {
  if (desc.num_kv_heads <= 0 || desc.num_heads <= 0 || desc.num_heads % desc.num_kv_heads != 0) {
    return invalid_argument("prefill on the GPU: heads must be a multiple of KV heads, got " +
                            std::to_string(desc.num_heads) + "/" + std::to_string(desc.num_kv_heads));
  }
  if (desc.num_kv_heads >= kNeighbouringHeads) {
    return unsupported("prefill on the GPU: fewer than " + std::to_string(kNeighbouringHeads) +
                       " KV heads, got " + std::to_string(desc.num_kv_heads));
  }
  if (desc.head_dim != 64 && desc.head_dim != 128 && desc.head_dim != 256) {
    return unsupported("prefill on the GPU: head dim must be 64, 128 or 256, got " +
                       std::to_string(desc.head_dim));
  }
  if (desc.num_heads / desc.num_kv_heads > kPrefillRows) {
    return unsupported("prefill on the GPU: at most " + std::to_string(kPrefillRows) +
                       " heads per KV head, got " + std::to_string(desc.num_heads / desc.num_kv_heads));
  }
  if (desc.page_size < kTileTokens || !std::has_single_bit(static_cast<unsigned>(desc.page_size))) {
    return unsupported("prefill on the GPU: page size must be a power of two from " +
                       std::to_string(kTileTokens) + " up, got " + std::to_string(desc.page_size));
  }
  if (desc.window < 0) return invalid_argument("prefill on the GPU: negative window");
  if (!(desc.scale > 0.0F)) return invalid_argument("prefill on the GPU: scale must be positive");
  return {};
}

}  // namespace

Expected<PrefillBuffers> make_prefill_buffers(const PrefillDesc& desc, const PrefillLimits& limits) {
  BIFOCAL_RETURN_IF_ERROR(check_desc(desc));
  if (limits.max_seqs <= 0 || limits.max_seqs > kMaxPrefillSeqs || limits.max_tokens <= 0) {
    return invalid_argument("prefill on the GPU: limits must be 1 to " + std::to_string(kMaxPrefillSeqs) +
                            " sequences and at least one token");
  }
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceTraits device, current_device());
  PrefillBuffers buffers;
  buffers.limits = limits;
  buffers.num_sms = device.num_sms;
  const PrefillRule rule = prefill_rule(desc.num_heads, desc.num_kv_heads, desc.head_dim, desc.window);
  // Every sequence may end in a tile of its own.
  const int64_t max_items =
      (int64_t{limits.max_tokens} / prefill_tile_tokens(rule) + limits.max_seqs) * desc.num_kv_heads;
  if (max_items >= kMaxPrefillItems) {
    return invalid_argument("prefill on the GPU: a step of " + std::to_string(limits.max_tokens) +
                            " tokens and " + std::to_string(limits.max_seqs) + " sequences may have " +
                            std::to_string(max_items) + " items, fewer than " +
                            std::to_string(kMaxPrefillItems) + " are possible");
  }
  buffers.max_items = static_cast<int>(max_items);
  BIFOCAL_ASSIGN_OR_RETURN(buffers.records, DeviceMemory::allocate(static_cast<size_t>(buffers.max_items) *
                                                                   sizeof(PrefillRecord)));
  BIFOCAL_ASSIGN_OR_RETURN(buffers.queue, DeviceMemory::allocate(sizeof(PrefillQueue)));
  return buffers;
}

}  // namespace bifocal::kernels::cuda
