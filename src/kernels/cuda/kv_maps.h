// Tensor maps of a layer's paged keys and values: what the copy engine needs to fetch a tile of a page.
#pragma once

#include <cuda.h>

#include "base/status.h"
#include "kernels/paged_kv.h"

namespace bifocal::kernels::cuda {

// Both maps see five dimensions, innermost first: 64 of D, token in page, panel of 64 of D, kv head, page. A
// box is one tile: kTileTokens tokens of one head, all panels, each panel in rows of 128 bytes with the
// 128-byte swizzle. Made once per layer; the addresses of K and V must not change.
struct KvMaps {
  CUtensorMap k;
  CUtensorMap v;
};

// kv: bf16 on the device, D a multiple of 64, S a multiple of kTileTokens, strides multiples of 8 elements.
// num_pages: P. invalid_argument names what doesn't fit.
Status make_kv_maps(const PagedKv& kv, int num_pages, KvMaps* maps);

}  // namespace bifocal::kernels::cuda
