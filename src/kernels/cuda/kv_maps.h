// Tensor maps of paged keys and values: what the copy engine needs to fetch a tile of a page.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/paged_kv.h"

namespace bifocal::kernels::cuda {

// A box is one tile, kTileTokens tokens of one head, read in the order of addresses: groups of eight tokens,
// of each group one panel (64 columns, 128 bytes) after the other. In shared memory a panel of a group is
// eight rows of 128 bytes with the 128-byte swizzle: what ldmatrix reads without bank conflicts. The five
// dimensions, innermost first: column in panel, token in group, panel, then groups of tokens, which are one
// dimension together with heads or with pages, whichever follows them evenly in memory, then the other.
struct TileOrigin {
  int32_t groups_per_head = 0;  // fourth coordinate: group of the token + head * this + page * that
  int32_t groups_per_page = 0;
  bool pages_outermost = true;  // fifth coordinate: page, else head
};

// One for all layers whose pages lie at even distances: a layer is an offset in pages. The maps lie in device
// memory, at one address for every layer and step: the copy engine finds them in the L2.
struct KvMaps {
  DeviceMemory maps;  // CUtensorMap [2]: K, V
  TileOrigin origin;
  const CUtensorMap* k() const { return maps.as<CUtensorMap>(); }
  const CUtensorMap* v() const { return maps.as<CUtensorMap>() + 1; }
};

// kv: bf16 on the device, D a multiple of 64, S a multiple of kTileTokens, strides multiples of 8 elements
// and the same for K and V, [page][kv head][token][dim] or [page][token][kv head][dim]. num_pages: of all
// layers. invalid_argument names what doesn't fit.
Expected<KvMaps> make_kv_maps(const PagedKv& kv, int num_pages);

// Query rows, bf16 [tokens, heads, head_dim] with a stride between tokens. A box is 64 columns of `box_heads`
// heads of `box_tokens` tokens: rows of 128 bytes with the 128-byte swizzle, in the order (token, head).
struct QueryRows {
  const uint16_t* q = nullptr;  // on the device, 16-byte aligned
  int64_t token_stride = 0;     // elements, a multiple of 8
  int num_tokens = 0;
  int num_heads = 0;
  int head_dim = 0;  // a multiple of 64
  int box_tokens = 0;
  int box_heads = 0;
};
Status make_query_map(const QueryRows& rows, CUtensorMap* map);

}  // namespace bifocal::kernels::cuda
