// What the warps of skinny_chain.cu share: a link's parameters, the walk over its pieces, the ring.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ring_cursor.h"

namespace bifocal::kernels::cuda::chain {

constexpr int kPanel = 64;     // columns of K: 128 bytes, the width of the swizzle
constexpr int kGroupRows = 8;  // of W; after so many rows the swizzle repeats
constexpr int kGroupBytes = kGroupRows * kPanel * 2;
constexpr int kTileGroups = 8;  // at most, wgmma's 64 rows
constexpr int kMaxPanels = 8;   // of a piece
constexpr int kTokens = 8;
constexpr int kMaxLinks = 4;

constexpr int kWBytes = 32 * kGroupBytes;  // of a piece, at most
constexpr int kXBytes = kMaxPanels * kTokens * kPanel * 2;
constexpr int kStages = 5;

// One product. A unit is eight columns of the result: a group of W's rows, of the gated form one of the gate
// and one of the other half.
struct Link {
  CUtensorMap w_map;
  CUtensorMap x_map;
  int units;
  int unit_groups;  // 1, gated 2
  int num_ctas;     // that share the units
  int panels;       // of a piece
  int tile_pieces;  // of a tile, along K
  int n;            // columns of the result
  const uint16_t* bias;
  const uint16_t* residual;
  uint16_t* out;
  const uint16_t* norm;  // of the norm behind this link, or null
  uint16_t* normed;
};

struct Params {
  Link links[kMaxLinks];
  int num_links;
  int m;
  float norm_eps;
  int* finished;   // [kMaxLinks] CTAs whose results of a link are in memory
  int* left;       // CTAs that wait for no other any more
  float* squares;  // [kTokens][CTAs] sums over a CTA's columns
};

// A CTA's units of a link, cut into tiles of equal size up to one.
struct Share {
  int begin;
  int units;
  int tiles;

  __device__ Share(const Link& link, int cta) : begin(0), units(0), tiles(0) {
    if (cta >= link.num_ctas) return;
    begin = cta * link.units / link.num_ctas;
    units = (cta + 1) * link.units / link.num_ctas - begin;
    tiles = tiles_of(units, link.unit_groups);
  }
  __device__ int tile_begin(int tile) const { return begin + tile * units / tiles; }
  __host__ __device__ static int tiles_of(int units, int unit_groups) {
    const int most = kTileGroups / unit_groups;
    return (units + most - 1) / most;
  }
};

// All W slots, then all x slots: wgmma reads 64 rows where a tile has fewer, which then lie in memory that
// the ring owns.
struct Ring {
  uint8_t* stages;
  uint64_t* full;   // W and x have come
  uint64_t* empty;  // both have been multiplied

  static constexpr int kBytes = kStages * (kWBytes + kXBytes);
  __device__ uint8_t* w(int slot) const { return stages + slot * kWBytes; }
  __device__ uint8_t* x(int slot) const { return stages + kStages * kWBytes + slot * kXBytes; }
};
static_assert(kStages * kXBytes >= kTileGroups * kMaxPanels * kGroupBytes - kWBytes,
              "the last W slot read as 64 rows");

}  // namespace bifocal::kernels::cuda::chain
