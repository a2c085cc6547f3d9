// bf16 weights by AMX tile products: tiles of 16 rows of A (32 k's each) times 16 columns of W, A rounded to
// bf16 to nearest even, f32 sums, subnormals flushed to zero. The same tiles serve one row (bound by reading
// W) and many (2 x 2 tiles of C). A product of tiles treats every row of A alone, so its bits don't depend on
// M.
#include <immintrin.h>

#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileK = 32;
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kChunk = 512;  // of K: two panels of W stay in the first-level cache while rows pass
constexpr int64_t kPrefetchBytes = 1024;

// Tile registers: 0-3 C [row tile][panel], 4-5 A, 6-7 W.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Shapes the registers for row tiles of first_rows and second_rows; 16 x 64 bytes otherwise.
void configure_tiles(int64_t first_rows, int64_t second_rows) {
  const auto first = static_cast<uint8_t>(first_rows);
  const auto second = static_cast<uint8_t>(second_rows > 0 ? second_rows : kTileRows);
  const uint8_t rows[8] = {first, first, second, second, first, second, kTileRows, kTileRows};
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = rows[i];
  }
  __asm__ volatile(""
                   :
                   : "r"(&config)
                   : "memory");  // the intrinsic names the first 8 bytes only as its input
  _tile_loadconfig(&config);
}

// Operands of up to two row tiles and two panels over a chunk of K.
struct TileStrip {
  const char* a[2] = {};   // [k / 32][rows][32] bf16
  const char* w[2] = {};   // [k / 32][16][16][2] bf16
  int64_t a_step[2] = {};  // bytes from one k tile to the next
  int64_t num_k_tiles = 0;
};

// Sums of the strip from zero into out [32][32].
template <int kRowTiles, int kPanels>
void multiply_strip(const TileStrip& s, float* out) {
  _tile_zero(0);
  if constexpr (kPanels == 2) _tile_zero(1);
  if constexpr (kRowTiles == 2) _tile_zero(2);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_zero(3);
  for (int64_t i = 0; i < s.num_k_tiles; ++i) {
    for (int p = 0; p < kPanels; ++p) {
      const char* const ahead = s.w[p] + i * kTileBytes + kPrefetchBytes;
      for (int64_t line = 0; line < kTileBytes; line += 64) simd::prefetch(ahead + line);
    }
    _tile_loadd(6, s.w[0] + i * kTileBytes, 64);
    _tile_loadd(4, s.a[0] + i * s.a_step[0], 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, s.a[1] + i * s.a_step[1], 64);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kPanels == 2) {
      _tile_loadd(7, s.w[1] + i * kTileBytes, 64);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kRowTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  constexpr int64_t kRowBytes = 2 * kTileColumns * static_cast<int64_t>(sizeof(float));
  _tile_stored(0, out, kRowBytes);
  if constexpr (kPanels == 2) _tile_stored(1, out + kTileColumns, kRowBytes);
  if constexpr (kRowTiles == 2) _tile_stored(2, out + kTileRows * 2 * kTileColumns, kRowBytes);
  if constexpr (kRowTiles == 2 && kPanels == 2) {
    _tile_stored(3, out + kTileRows * 2 * kTileColumns + kTileColumns, kRowBytes);
  }
}

// C[row, column...] (+)= sums of one chunk, num_columns wide at most.
void add_strip(const GemmBlock& block, const float* sums, int64_t row, int64_t num_rows, int64_t column,
               int64_t num_columns, bool first_chunk) {
  const bool load = !first_chunk || block.accumulate;
  const bool add_bias = first_chunk && block.bias != nullptr;
  for (int64_t begin = column; begin < block.n && begin < column + num_columns; begin += simd::kLanes) {
    const int64_t n = block.n - begin < simd::kLanes ? block.n - begin : simd::kLanes;
    const simd::Vec bias = add_bias ? simd::load_first(block.bias + begin, n) : simd::zero();
    for (int64_t r = 0; r < num_rows; ++r) {
      float* const c = block.c + (row + r) * block.ldc + begin;
      simd::Vec total = load ? simd::load_first(c, n) : simd::zero();
      if (add_bias) total = simd::add(total, bias);
      simd::store_first(c, simd::add(total, simd::load(sums + r * 2 * kTileColumns + begin - column)), n);
    }
  }
}

void multiply(const GemmBlock& block) {
  alignas(64) float sums[2 * kTileRows * 2 * kTileColumns];
  const auto* const rows = static_cast<const char*>(block.rows);
  const auto* const panels = static_cast<const char*>(block.panels);
  const bool few_rows = block.m <= 2 * kTileRows;  // bound by reading W: one panel at a time, from end to end
  const int64_t span = few_rows ? block.k : kChunk;
  const int64_t columns = few_rows ? kTileColumns : 2 * kTileColumns;
  int64_t configured = 0;
  for (int64_t span_begin = 0; span_begin < block.k; span_begin += span) {
    const int64_t span_end = span_begin + span < block.k ? span_begin + span : block.k;
    for (int64_t column = 0; column < block.n; column += columns) {
      const bool two_panels = !few_rows && column + kTileColumns < block.n;
      for (int64_t k0 = span_begin; k0 < span_end; k0 += kChunk) {
        const int64_t k = span_end - k0 < kChunk ? span_end - k0 : kChunk;
        for (int64_t row = 0; row < block.m; row += 2 * kTileRows) {
          const int64_t num_rows = block.m - row < 2 * kTileRows ? block.m - row : 2 * kTileRows;
          const int64_t first_rows = num_rows < kTileRows ? num_rows : kTileRows;
          const int64_t second_rows = num_rows - first_rows;
          if (num_rows != configured) configure_tiles(first_rows, second_rows);
          configured = num_rows;
          TileStrip strip;
          strip.num_k_tiles = k / kTileK;
          strip.a[0] = rows + (row * block.k + k0 * first_rows) * 2;
          strip.a_step[0] = first_rows * kTileK * 2;
          strip.a[1] = rows + ((row + kTileRows) * block.k + k0 * second_rows) * 2;
          strip.a_step[1] = second_rows * kTileK * 2;
          strip.w[0] = panels + (column * block.k + k0 * kTileColumns) * 2;
          strip.w[1] = strip.w[0] + kTileColumns * block.k * 2;
          if (second_rows > 0) {
            two_panels ? multiply_strip<2, 2>(strip, sums) : multiply_strip<2, 1>(strip, sums);
          } else {
            two_panels ? multiply_strip<1, 2>(strip, sums) : multiply_strip<1, 1>(strip, sums);
          }
          add_strip(block, sums, row, num_rows, column, columns, k0 == 0);
        }
      }
    }
  }
  _tile_release();
}

// [k_padded / 32][rows][32]
void pack_rows(const float* a, int64_t lda, int64_t rows, int64_t k, int64_t k_padded, void* out) {
  auto* packed = static_cast<uint16_t*>(out);
  for (int64_t k0 = 0; k0 < k_padded; k0 += kTileK) {
    const int64_t left = k - k0;
    for (int64_t r = 0; r < rows; ++r) {
      const float* const x = a + r * lda + k0;
      const int64_t n0 = left < simd::kLanes ? left : simd::kLanes;
      const int64_t n1 = left < kTileK ? left - n0 : simd::kLanes;
      const __m512bh pair =
          _mm512_cvtne2ps_pbh(simd::load_first(x + simd::kLanes, n1), simd::load_first(x, n0));
      _mm512_storeu_si512(packed, __builtin_bit_cast(__m512i, pair));
      packed += kTileK;
    }
  }
}

constexpr GemmKernel make() {
  GemmKernel kernel;
  kernel.panel_columns = kTileColumns;
  kernel.k_group = 2;
  kernel.k_multiple = kTileK;
  kernel.row_block = kTileRows;
  kernel.row_value_bytes = 2;
  kernel.block_columns = 256;
  kernel.block_rows = 512;
  kernel.pack_rows = pack_rows;
  kernel.multiply = multiply;
  return kernel;
}

}  // namespace

constinit const GemmKernel kGemmAmx = make();

}  // namespace bifocal::kernels::cpu
