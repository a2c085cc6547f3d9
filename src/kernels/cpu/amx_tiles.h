// The shape of the AMX tile registers that this room's kernels use. Internal linkage: see simd.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace bifocal::kernels::cpu {
namespace {

// Palette 1: eight tiles of up to 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

inline void load_tile_config(const TileConfig& config) {
  __asm__ volatile(""
                   :
                   : "r"(&config)
                   : "memory");  // the intrinsic names the first 8 bytes only as its input
  _tile_loadconfig(&config);
}

// Tiles 0 to 3: C [row tile][panel]; 4 and 5: A; 6 and 7: W. first_rows (of tiles 0, 1, 4) and second_rows
// (2, 3, 5) are in 1..16.
inline void configure_tiles(int64_t first_rows, int64_t second_rows) {
  const auto first = static_cast<uint8_t>(first_rows);
  const auto second = static_cast<uint8_t>(second_rows);
  const uint8_t rows[8] = {first, first, second, second, first, second, 16, 16};
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = rows[i];
  }
  load_tile_config(config);
}

}  // namespace
}  // namespace bifocal::kernels::cpu
