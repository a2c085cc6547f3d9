#include <immintrin.h>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/peak_loops.h"

namespace bifocal::kernels::cpu {

int64_t peak_bf16_dot_amx(int64_t iterations) {
  alignas(64) const uint16_t operand[512] = {};
  configure_tiles(16, 16);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, operand, 64);
  _tile_loadd(5, operand, 64);
  _tile_loadd(6, operand, 64);
  _tile_loadd(7, operand, 64);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return iterations * 4 * (16 * 16 * 32 * 2);
}

}  // namespace bifocal::kernels::cpu
