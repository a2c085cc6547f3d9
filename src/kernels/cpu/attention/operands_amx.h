// Operands of AMX tile products for attention over bf16 keys and values. One factor is bf16 as it lies in the
// cache; the other one is f32, queries or the weights of the softmax, and is taken as a sum of bf16 numbers
// of 8 bits each, so that all products are exact and their sums are f32, as in the other kernels. A subnormal
// number counts as zero.
//
// Every element of a product is one sum over the dims, or over the keys in an order that follows from their
// positions: it depends on nothing else in its tile. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/attention/key_block.h"
#include "kernels/cpu/attention/lanes.h"

namespace bifocal::kernels::cpu {
namespace {
namespace amx {

using namespace simd;

constexpr int kTile = 16;         // rows of a tile, and its 32-bit columns
constexpr int kDepth = 32;        // bf16 factors that one product of tiles sums up
constexpr int kTileFloats = 256;  // 1 KiB
constexpr int kKeyTiles = kKeyBlock / kTile;
static_assert(kKeyTiles == 4 && kWidth == kTile);

constexpr int whole_steps(int n) {
  return (n + kDepth - 1) / kDepth;
}

// fn(number, head, first row, rows) for each group of at most kRows query rows of one KV head.
template <int kRows, class Fn>
void for_groups(int num_heads, int num_rows, Fn fn) {
  int group = 0;
  for (int h = 0; h < num_heads; ++h) {
    for (int r = 0; r < num_rows; r += kRows, ++group) {
      fn(group, h, r, num_rows - r < kRows ? num_rows - r : kRows);
    }
  }
}

// The tile intrinsics don't name the memory that they read: what was stored before must have been written.
inline void complete_stores() {
  __asm__ volatile("" ::: "memory");
}

// v rounded to bf16, as a float.
inline Vec round_to_bf16(Vec v) {
  const __m512i wide = _mm512_cvtepu16_epi32(__builtin_bit_cast(__m256i, _mm512_cvtneps_pbh(v)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

// x = part[0] + part[1] + ..., the largest first; three hold all of a float's 24 bits.
template <size_t kParts>
void split(Vec x, Vec (&part)[kParts]) {
#pragma GCC unroll 3
  for (Vec& p : part) {
    p = round_to_bf16(x);
    x = sub(x, p);
  }
}

inline __m512i bits_of(Vec v) {
  return _mm512_castps_si512(v);
}
// Two bf16 numbers that are held as floats, as one pair.
inline Vec pair_of(Vec first, Vec second) {
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(bits_of(first), 16), bits_of(second)));
}

// Sixteen rows of the cache as an operand.
struct RowTile {
  const void* rows = nullptr;
  int64_t stride = 0;  // bytes
};

// Rows [first, first + 16) of a block's keys, or of its values, for the KV head that lies `head` bytes behind
// the first: in place where all of them are visible, evenly spaced and of whole tiles, else as a copy that is
// padded with zeros. copies: [kKeyBlock, whole steps of head_dim]
inline RowTile row_tile(const uint16_t* const* rows, int first, KeyRange visible, int64_t head, int head_dim,
                        int64_t stride, uint16_t* copies) {
  const auto row = [&](int i) { return reinterpret_cast<const char*>(rows[first + i]); };
  bool in_place = head_dim % kDepth == 0 && first >= visible.begin && first + kTile <= visible.end;
  for (int i = 1; i < kTile && in_place; ++i) in_place = row(i) == row(0) + i * stride;
  if (in_place) return {row(0) + head, stride};

  const int columns = whole_steps(head_dim) * kDepth;
  uint16_t* copy = copies + first * columns;
  for (int i = 0; i < kTile; ++i) {
    const auto* from = reinterpret_cast<const uint16_t*>(row(i) + head);
    for (int d = 0; d < columns; d += kDepth) {
      const int left = head_dim - d;
      const auto mask = left < kDepth ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
      _mm512_storeu_si512(copy + i * columns + d, _mm512_maskz_loadu_epi16(mask, from + d));
    }
  }
  return {copy, columns * 2};
}

// Elements [first, first + 32) of a query, scaled and split, as a row of 16 pairs for each part. Beyond
// head_dim there are zeros.
template <size_t kParts>
void query_pairs(const float* q, int first, int head_dim, float scale, Vec (&row)[kParts]) {
  const int left = head_dim - first;
  const int low = left < kWidth ? left : kWidth;
  const int high = left < kDepth ? left - low : kWidth;
  Vec a[kParts];
  Vec b[kParts];
  split(mul(load_first(q + first, low), set1(scale)), a);
  split(mul(high > 0 ? load_first(q + first + kWidth, high) : zero(), set1(scale)), b);
  for (size_t p = 0; p < kParts; ++p) {
    const __m512i both = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits_of(a[p]), 16))),
        _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits_of(b[p]), 16)), 1);
    row[p] = _mm512_castsi512_ps(both);
  }
}

// Tiles 0 to 3 are sums, 4 is the operand that is used with each of 5 to 7, which are whole rows of the
// cache. All have 16 rows of 64 bytes, but for what is said of the sums and of tile 4.
inline void configure_tiles(int sum_rows, int sum_bytes, int operand_rows, int operand_bytes) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = static_cast<uint8_t>(i < 4 ? sum_rows : i == 4 ? operand_rows : kTile);
    config.row_bytes[i] = static_cast<uint16_t>(i < 4 ? sum_bytes : i == 4 ? operand_bytes : 64);
  }
  load_tile_config(config);
}

// Adds the products of 64 keys with one tile of queries for each step of 32 dims: tiles 0 to 3 are sums of 16
// keys each. The queries' tiles have 16 rows of row_floats. before_tile() is called 4 * num_steps times.
template <class BeforeTile>
void multiply_keys(const RowTile (&keys)[kKeyTiles], const float* q, int row_floats, int num_steps,
                   BeforeTile before_tile) {
  const int64_t row_bytes = int64_t{row_floats} * 4;
  const auto* k0 = static_cast<const char*>(keys[0].rows);
  const auto* k1 = static_cast<const char*>(keys[1].rows);
  const auto* k2 = static_cast<const char*>(keys[2].rows);
  const auto* k3 = static_cast<const char*>(keys[3].rows);
  complete_stores();
  for (int s = 0; s < num_steps; ++s) {
    _tile_loadd(4, q, row_bytes);
    before_tile();
    _tile_loadd(5, k0, keys[0].stride);
    _tile_dpbf16ps(0, 5, 4);
    before_tile();
    _tile_loadd(6, k1, keys[1].stride);
    _tile_dpbf16ps(1, 6, 4);
    before_tile();
    _tile_loadd(7, k2, keys[2].stride);
    _tile_dpbf16ps(2, 7, 4);
    before_tile();
    _tile_loadd(5, k3, keys[3].stride);
    _tile_dpbf16ps(3, 5, 4);
    q += kTile * row_floats;
    k0 += 64;
    k1 += 64;
    k2 += 64;
    k3 += 64;
  }
}
inline void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}
inline void store_sums(float* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileFloats, 64);
  _tile_stored(2, sums + 2 * kTileFloats, 64);
  _tile_stored(3, sums + 3 * kTileFloats, 64);
}

}  // namespace amx
}  // namespace
}  // namespace bifocal::kernels::cpu
