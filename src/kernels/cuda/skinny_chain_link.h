// What the warps of skinny_chain.cu share: a link's parameters, its tiles, the rings.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"

namespace bifocal::kernels::cuda::chain {

constexpr int kPanel = 64;  // columns of K: 128 bytes, the width of the swizzle
constexpr int kPanelBytes = kPanel * 2;
constexpr int kSwizzleBytes = 1024;  // after so many bytes the swizzle repeats
constexpr int kTokens = 8;
constexpr int kMaxLinks = 4;
constexpr int kMultipliers = 8;  // warps
constexpr int kConsumers = kMultipliers * 32;
constexpr int kTileRows = 32;  // of W, at most

constexpr int kPiecePanels = 8;
constexpr int kRowBytes = kPiecePanels * kPanelBytes;  // of a piece
constexpr int kRingBytes = 207 * 1024;                 // all pieces of W and x
constexpr int kWSlots = 12;
constexpr int kXSlots = 8;

// Tiles of one size: some columns of the result, and all of K.
struct Tiles {
  CUtensorMap w_map;
  int first_column;
  int columns;
};

// One product. CTAs take its tiles in turn; those of size 0 lead, and have one column more than the others.
struct Link {
  CUtensorMap x_map;
  Tiles tiles[2];
  int num_large;
  int num_tiles;
  int pieces;  // of a tile, along K
  int halves;  // of W: 1, gated 2
  int n;       // columns of the result
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
  int w_bytes;  // of kRingBytes, what x leaves
  float norm_eps;
  int* finished;   // [kMaxLinks] CTAs whose results of a link are in memory
  int* left;       // warps that wait for no other CTA any more
  float* squares;  // [tiles][kTokens] sums over a tile's columns
};

struct Tile {
  const Tiles* tiles;
  int column;  // first
  int rows;    // of W

  __device__ Tile(const Link& link, int tile) {
    const int size = tile < link.num_large ? 0 : 1;
    tiles = &link.tiles[size];
    column = tiles->first_column + (tile - size * link.num_large) * tiles->columns;
    rows = tiles->columns * link.halves;
  }
};

// A piece of W lies panel after panel, in a panel row after row; pieces lie behind one another wherever there
// is room. x lies in slots of its own: W leaves for registers before x has come.
struct Rings {
  uint8_t* w;
  uint8_t* x;
  int* w_at;    // [kWSlots] where a piece lies
  int* w_room;  // [kWSlots] bytes that it keeps from others
  uint64_t* w_full;
  uint64_t* w_empty;
  uint64_t* x_full;
  uint64_t* x_empty;
};

}  // namespace bifocal::kernels::cuda::chain
