// bf16 weights by AMX tile products: tiles of 16 rows of A (32 k's each) times 16 columns of W, A rounded to
// bf16 to nearest even, f32 sums, subnormals flushed to zero. The same tiles serve one row (bound by reading
// W) and many (2 x 2 tiles of C). A product of tiles treats every row of A alone, so its bits don't depend on
// M.
#include <immintrin.h>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/gemm_finish.h"
#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileK = 32;
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kStripRows = 2 * kTileRows;
constexpr int64_t kMaxRows = 512;  // of a block: sums of two panels lie on the stack

// A strip: up to two row tiles times up to two panels over a chunk of K.
struct Strip {
  const char* a[2] = {};        // [k / 32][rows][32] bf16
  int64_t a_step[2] = {};       // bytes from one k tile to the next
  const char* w[2] = {};        // [k / 32][16][16][2] bf16
  const char* w_ahead[2] = {};  // what to bring into the second-level cache meanwhile
  int64_t w_ahead_step = 0;     // bytes of each per k tile
  int64_t num_k_tiles = 0;
  bool first_chunk = true;  // sums start from zero, else from what `sums` holds
  float* sums = nullptr;    // [32][sums_stride]
  int64_t sums_stride = 0;
};

template <int kRowTiles, int kPanels>
void multiply_strip(const Strip& s) {
  float* const lower = s.sums + kTileRows * s.sums_stride;
  const int64_t sums_bytes = s.sums_stride * static_cast<int64_t>(sizeof(float));
  if (s.first_chunk) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, s.sums, sums_bytes);
    if constexpr (kPanels == 2) _tile_loadd(1, s.sums + kTileColumns, sums_bytes);
    if constexpr (kRowTiles == 2) _tile_loadd(2, lower, sums_bytes);
    if constexpr (kRowTiles == 2 && kPanels == 2) _tile_loadd(3, lower + kTileColumns, sums_bytes);
  }
  const char* a0 = s.a[0];
  const char* a1 = s.a[1];
  const char* w0 = s.w[0];
  const char* w1 = s.w[1];
  const char* ahead0 = s.w_ahead[0];
  const char* ahead1 = s.w_ahead[1];
  const int64_t a0_step = s.a_step[0];
  const int64_t a1_step = s.a_step[1];
  const int64_t ahead_step = s.w_ahead_step;
  for (int64_t i = 0; i < s.num_k_tiles; ++i) {
    for (int64_t byte = 0; byte < ahead_step; byte += 64) {
      simd::prefetch_second_level(ahead0 + byte);
      if constexpr (kPanels == 2) simd::prefetch_second_level(ahead1 + byte);
    }
    // One panel: A is used again by the next one, W is not. Two panels: W is used again by the next rows, A
    // is not. The hint keeps what passes by from pushing the other out of the first-level cache.
    if constexpr (kPanels == 1) {
      _tile_stream_loadd(6, w0, 64);
      _tile_loadd(4, a0, 64);
      if constexpr (kRowTiles == 2) _tile_loadd(5, a1, 64);
    } else {
      _tile_loadd(6, w0, 64);
      _tile_stream_loadd(4, a0, 64);
      if constexpr (kRowTiles == 2) _tile_stream_loadd(5, a1, 64);
    }
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRowTiles == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kPanels == 2) {
      _tile_loadd(7, w1, 64);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kRowTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
    a0 += a0_step;
    a1 += a1_step;
    w0 += kTileBytes;
    w1 += kTileBytes;
    ahead0 += ahead_step;
    ahead1 += ahead_step;
  }
  _tile_stored(0, s.sums, sums_bytes);
  if constexpr (kPanels == 2) _tile_stored(1, s.sums + kTileColumns, sums_bytes);
  if constexpr (kRowTiles == 2) _tile_stored(2, lower, sums_bytes);
  if constexpr (kRowTiles == 2 && kPanels == 2) _tile_stored(3, lower + kTileColumns, sums_bytes);
}

// The rows of the block from `row` on as a strip's row tiles, at k0. Returns how many rows they are.
int64_t set_rows(const GemmBlock& block, int64_t row, int64_t k0, Strip& strip) {
  const auto* const rows = static_cast<const char*>(block.rows);
  const int64_t num_rows = block.m - row < kStripRows ? block.m - row : kStripRows;
  const int64_t first_rows = num_rows < kTileRows ? num_rows : kTileRows;
  const int64_t second_rows = num_rows - first_rows;
  strip.a[0] = rows + (row * block.k + k0 * first_rows) * 2;
  strip.a_step[0] = first_rows * kTileK * 2;
  strip.a[1] = rows + ((row + kTileRows) * block.k + k0 * second_rows) * 2;
  strip.a_step[1] = second_rows * kTileK * 2;
  return num_rows;
}

void configure_tiles_for(int64_t num_rows) {
  const bool two_tiles = num_rows > kTileRows;
  configure_tiles(two_tiles ? kTileRows : num_rows, two_tiles ? num_rows - kTileRows : kTileRows);
}

// Up to 32 rows: bound by reading W. A chunk of A stays in the first-level cache while W streams past it,
// panel by panel.
void multiply_few_rows(const GemmBlock& block, float* sums) {
  constexpr int64_t kPanels = 4;
  constexpr int64_t kChunkBytes = 32 << 10;
  constexpr int64_t kAheadBytes = 1024;
  const auto* const panels = static_cast<const char*>(block.panels);
  const int64_t panel_bytes = block.k * kTileColumns * 2;
  const int64_t chunk = kChunkBytes / (block.m * 2) / kTileK * kTileK;
  configure_tiles_for(block.m);
  Strip strip;
  strip.sums_stride = kPanels * kTileColumns;
  strip.w_ahead_step = kTileBytes;
  for (int64_t column = 0; column < block.n; column += kPanels * kTileColumns) {
    for (int64_t k0 = 0; k0 < block.k; k0 += chunk) {
      strip.first_chunk = k0 == 0;
      strip.num_k_tiles = (block.k - k0 < chunk ? block.k - k0 : chunk) / kTileK;
      set_rows(block, 0, k0, strip);
      for (int64_t p = 0; p < kPanels && column + p * kTileColumns < block.n; ++p) {
        strip.w[0] = panels + (column / kTileColumns + p) * panel_bytes + k0 * kTileColumns * 2;
        strip.w_ahead[0] = strip.w[0] + kAheadBytes;
        strip.sums = sums + p * kTileColumns;
        block.m > kTileRows ? multiply_strip<2, 1>(strip) : multiply_strip<1, 1>(strip);
      }
    }
    add_to_c(block, sums, strip.sums_stride, column, kPanels * kTileColumns);
  }
}

// Many rows: bound by multiplying. A chunk of two panels stays in the first-level cache while the rows pass
// it.
void multiply_many_rows(const GemmBlock& block, float* sums) {
  constexpr int64_t kChunk = 512;
  const auto* const panels = static_cast<const char*>(block.panels);
  const int64_t panel_bytes = block.k * kTileColumns * 2;
  const int64_t num_strips = (block.m + kStripRows - 1) / kStripRows;
  int64_t configured_rows = 0;
  Strip strip;
  strip.sums_stride = 2 * kTileColumns;
  strip.w_ahead_step = (kTileBytes / num_strips + 63) / 64 * 64;
  for (int64_t column = 0; column < block.n; column += 2 * kTileColumns) {
    const bool two_panels = column + kTileColumns < block.n;
    for (int64_t k0 = 0; k0 < block.k; k0 += kChunk) {
      const int64_t k = block.k - k0 < kChunk ? block.k - k0 : kChunk;
      const int64_t chunk_bytes = k * kTileColumns * 2;
      strip.first_chunk = k0 == 0;
      strip.num_k_tiles = k / kTileK;
      // Each strip fetches its share of the chunk after this one.
      const int64_t to_next = k0 + k == block.k ? chunk_bytes + panel_bytes : chunk_bytes;
      strip.w[0] = panels + column / kTileColumns * panel_bytes + k0 * kTileColumns * 2;
      strip.w[1] = strip.w[0] + panel_bytes;
      strip.w_ahead[0] = strip.w[0] + to_next;
      strip.w_ahead[1] = strip.w[1] + to_next;
      for (int64_t row = 0; row < block.m; row += kStripRows) {
        const int64_t num_rows = set_rows(block, row, k0, strip);
        if (num_rows != configured_rows) configure_tiles_for(num_rows);
        configured_rows = num_rows;
        strip.sums = sums + row * strip.sums_stride;
        if (num_rows > kTileRows) {
          two_panels ? multiply_strip<2, 2>(strip) : multiply_strip<2, 1>(strip);
        } else {
          two_panels ? multiply_strip<1, 2>(strip) : multiply_strip<1, 1>(strip);
        }
        strip.w_ahead[0] += strip.num_k_tiles * strip.w_ahead_step;
        strip.w_ahead[1] += strip.num_k_tiles * strip.w_ahead_step;
      }
    }
    add_to_c(block, sums, strip.sums_stride, column, 2 * kTileColumns);
  }
}

void multiply(const GemmBlock& block) {
  alignas(64) float sums[kMaxRows * 2 * kTileColumns];
  block.m <= kStripRows ? multiply_few_rows(block, sums) : multiply_many_rows(block, sums);
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
  kernel.max_rows = kMaxRows;
  kernel.pack_rows = pack_rows;
  kernel.multiply = multiply;
  return kernel;
}

}  // namespace

constinit const GemmKernel kGemmAmx = make();

}  // namespace bifocal::kernels::cpu
