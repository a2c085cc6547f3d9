// What the warps of skinny_gemm.cu share: parameters, who has which rows and columns of W, the two rings.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace bifocal::kernels::cuda::skinny {

constexpr int kPanel = 64;     // columns of K: 128 bytes, the width of the swizzle
constexpr int kGroupRows = 8;  // of W; after so many rows the swizzle repeats
constexpr int kGroupBytes = kGroupRows * kPanel * 2;
constexpr int kChunkPanels = 4;  // multiplied at a time: long runs along K favour memory
constexpr int kTileGroups = 8;   // at most, wgmma's 64 rows
constexpr int kWarpgroups = 2;
constexpr int kOwnTiles = 3;  // of a warpgroup: as many sums as registers hold
constexpr int kBlockTiles = kWarpgroups * kOwnTiles;
constexpr int kParts = 4;  // of K, where CTAs share it
constexpr int kMaxXSlots = 3;

enum class Result { bf16, f32, gated };

struct Params {
  CUtensorMap w_map;
  CUtensorMap x_map;
  int units;        // of eight columns of the result
  int unit_groups;  // of W's rows in a unit: 1, of the gated form 2: gate and other half
  int blocks;       // that share the units
  int chunks;       // of K
  int parts;        // 1, or kParts CTAs of a block that share its chunks
  int passes;       // blocks of a CTA, one after another; 1 where there are parts
  int w_slots;
  int w_slot_bytes;
  int m;
  int n;  // columns of the result
  const uint16_t* bias;
  const uint16_t* residual;
  void* out;
  float4* partials;  // [CTAs][kBlockTiles][kTokens / 8][128], of marks
};

// A CTA's part of a block: chunks [begin_chunk, end_chunk) of its units, in tiles of at most 64 rows of W.
struct Work {
  int begin;
  int units;
  int tiles;
  int begin_chunk;
  int end_chunk;

  __device__ Work(const Params& params, int pass) {
    const int cta = static_cast<int>(blockIdx.x);
    const int block = cta / params.parts * params.passes + pass;
    const int part = cta % params.parts;
    begin = block * params.units / params.blocks;
    units = (block + 1) * params.units / params.blocks - begin;
    tiles = tiles_of(units, params.unit_groups);
    begin_chunk = part * params.chunks / params.parts;
    end_chunk = (part + 1) * params.chunks / params.parts;
  }
  __device__ int tile_begin(int tile) const { return begin + tile * units / tiles; }
  __device__ int tile_units(int tile) const { return tile_begin(tile + 1) - tile_begin(tile); }
  __host__ __device__ static int tiles_of(int units, int unit_groups) {
    return (units * unit_groups + kTileGroups - 1) / kTileGroups;
  }
};

constexpr int kRingBytes = 225 * 1024;  // of both

// A chunk of x is multiplied by all tiles of a block, and a piece of W is a tile's rows of a chunk.
template <int kTokensOf>
struct Shape {
  static constexpr int kTokens = kTokensOf;
  static constexpr int kValues = kTokens / 2;  // of a thread, for a tile
  static constexpr int kXPanelBytes = kTokens * kPanel * 2;
  static constexpr int kXBytes = kChunkPanels * kXPanelBytes;
  static constexpr int kXSlots = kTokens <= 32 ? kMaxXSlots : 2;
  static constexpr int kWBytes = kRingBytes - kXSlots * kXBytes;  // of all slots
  static constexpr int kBytes = kRingBytes + 1024;                // rings begin at a multiple of 1,024
};
// Slots are as large as a block's largest tile; wgmma reads 64 rows, so behind the last one too.
constexpr int kFullTileBytes = kTileGroups * kChunkPanels * kGroupBytes;
constexpr int kMaxWSlots = 24;

struct Barriers {
  uint64_t w_full[kMaxWSlots];
  uint64_t w_empty[kMaxWSlots];
  uint64_t x_full[kMaxXSlots];
  uint64_t x_empty[kMaxXSlots];
};

template <class S>
struct Rings {
  uint8_t* slots;  // of x, then of W
  int w_slot_bytes;
  Barriers& barriers;

  __device__ uint8_t* x(int slot) const { return slots + slot * S::kXBytes; }
  __device__ uint8_t* w(int slot) const { return slots + S::kXSlots * S::kXBytes + slot * w_slot_bytes; }
};

// Position in the ring of W, whose number of slots only the launcher knows.
struct WCursor {
  int slots;
  int slot = 0;
  uint32_t phase = 0;
  explicit __device__ WCursor(int num_slots) : slots(num_slots) {}
  __device__ __forceinline__ void advance() {
    if (++slot == slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

}  // namespace bifocal::kernels::cuda::skinny
