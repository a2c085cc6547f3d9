#include "kernels/cuda/kv_maps.h"

#include <array>
#include <string>

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/tensor_maps.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kPanel = 64;  // columns: 128 bytes of bf16, the width of the swizzle
constexpr int kGroup = 8;   // tokens: after so many rows the swizzle repeats

struct Geometry {
  int head_dim;
  int page_size;
  int num_kv_heads;
  int num_pages;
  int64_t token_stride;  // elements
  int64_t head_stride;
  int64_t page_stride;
};

// Heads that follow one another at the distance of a page's tokens, or pages that do.
Expected<TileOrigin> find_origin(const Geometry& g) {
  const int groups = g.page_size / kGroup;
  if (g.head_stride == g.token_stride * g.page_size) return TileOrigin{groups, 0, true};
  if (g.page_stride == g.token_stride * g.page_size) return TileOrigin{0, groups, false};
  return invalid_argument(
      "KV cache on the GPU: neither heads nor pages lie at a distance of page size times "
      "token stride; strides are " +
      std::to_string(g.page_stride) + ", " + std::to_string(g.head_stride) + ", " +
      std::to_string(g.token_stride));
}

Status encode(void* base, const Geometry& g, const TileOrigin& origin, CUtensorMap* map) {
  const auto bytes = [](int64_t elements) { return elements * 2; };
  const int panels = g.head_dim / kPanel;
  const int groups = g.page_size / kGroup * (origin.pages_outermost ? g.num_kv_heads : g.num_pages);
  const std::array<TensorMapDim, 5> dims = {
      {{kPanel, 0, kPanel},
       {kGroup, bytes(g.token_stride), kGroup},
       {panels, bytes(kPanel), panels},
       {groups, bytes(g.token_stride * kGroup), kTileTokens / kGroup},
       {origin.pages_outermost ? g.num_pages : g.num_kv_heads,
        bytes(origin.pages_outermost ? g.page_stride : g.head_stride), 1}}};
  return make_tensor_map(base, dims, map);
}

}  // namespace

Expected<KvMaps> make_kv_maps(const PagedKv& kv, int num_pages) {
  if (kv.dtype != DType::bf16) return invalid_argument("KV cache on the GPU: dtype must be bf16");
  if (kv.head_dim_k % kPanel != 0 || kv.head_dim_k != kv.head_dim_v) {
    return invalid_argument("KV cache on the GPU: head dims must be equal multiples of 64, got " +
                            std::to_string(kv.head_dim_k) + "/" + std::to_string(kv.head_dim_v));
  }
  if (kv.page_size <= 0 || kv.page_size % kTileTokens != 0) {
    return invalid_argument("KV cache on the GPU: page size must be a multiple of " +
                            std::to_string(kTileTokens) + ", got " + std::to_string(kv.page_size));
  }
  for (const int64_t stride : {kv.k_page_stride, kv.k_head_stride, kv.k_token_stride, kv.v_page_stride,
                               kv.v_head_stride, kv.v_token_stride}) {
    if (stride <= 0 || stride % 8 != 0) {
      return invalid_argument("KV cache on the GPU: strides must be positive multiples of 8 elements, got " +
                              std::to_string(stride));
    }
  }
  if (kv.k_page_stride != kv.v_page_stride || kv.k_head_stride != kv.v_head_stride ||
      kv.k_token_stride != kv.v_token_stride) {
    return invalid_argument("KV cache on the GPU: K and V must have the same strides");
  }
  const Geometry geometry{kv.head_dim_k,     kv.page_size,     kv.num_kv_heads, num_pages,
                          kv.k_token_stride, kv.k_head_stride, kv.k_page_stride};
  KvMaps maps;
  BIFOCAL_ASSIGN_OR_RETURN(maps.origin, find_origin(geometry));
  std::array<CUtensorMap, 2> host{};
  BIFOCAL_RETURN_IF_ERROR(encode(kv.k, geometry, maps.origin, &host[0]));
  BIFOCAL_RETURN_IF_ERROR(encode(kv.v, geometry, maps.origin, &host[1]));
  BIFOCAL_ASSIGN_OR_RETURN(maps.maps, DeviceMemory::allocate(sizeof(host)));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemcpy(maps.maps.as<void>(), host.data(), sizeof(host), cudaMemcpyHostToDevice),
                "copying tensor maps"));
  return maps;
}

Status make_query_map(const QueryRows& rows, CUtensorMap* map) {
  if (reinterpret_cast<uintptr_t>(rows.q) % 16 != 0 || rows.token_stride % 8 != 0) {
    return invalid_argument(
        "queries on the GPU: rows must start at multiples of 16 bytes, got token stride " +
        std::to_string(rows.token_stride));
  }
  const std::array<TensorMapDim, 3> dims = {{{rows.head_dim, 0, kPanel},
                                             {rows.num_heads, int64_t{2} * rows.head_dim, rows.box_heads},
                                             {rows.num_tokens, 2 * rows.token_stride, rows.box_tokens}}};
  return make_tensor_map(rows.q, dims, map);
}

}  // namespace bifocal::kernels::cuda
