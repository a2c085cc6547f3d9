// Register-tiled products written once with simd.h: kRows rows of A times a panel of two vectors, f32 sums.
// Included by files that choose kRows for their register count.
#pragma once

#include "kernels/cpu/gemm_finish.h"
#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

using simd::kLanes;
using simd::Vec;

constexpr int64_t kPanelColumns = 2 * kLanes;
constexpr int64_t kChunk = 256;    // of K: a chunk of a panel stays in the first-level cache while rows pass
constexpr int64_t kMaxRows = 252;  // of a block: its sums of one panel lie on the stack
constexpr int64_t kStreamAheadBytes = 2048;

template <int kRows>
struct Sums {
  Vec v[static_cast<uint32_t>(kRows)][2];
};

// sums[r] += a[r] * b for one k.
template <int kRows>
inline __attribute__((always_inline)) void add_products(Sums<kRows>& sums, const float* a, Vec b0, Vec b1) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const Vec s = simd::set1(a[r]);
    sums.v[r][0] = simd::fma(s, b0, sums.v[r][0]);
    sums.v[r][1] = simd::fma(s, b1, sums.v[r][1]);
  }
}

// Weight types: step() takes k_group values of every row and of the panel's columns. Where values have to be
// widened on the way, widen() does it for a chunk [k][kPanelColumns] that many rows will use, to the same
// bits.
struct F32Panel {
  using Row = float;
  using Value = float;
  static constexpr int64_t k_group = 1;
  static constexpr bool widens = false;
  template <int kRows>
  static inline __attribute__((always_inline)) void step(Sums<kRows>& sums, const float* a, const float* w) {
    add_products(sums, a, simd::load(w), simd::load(w + kLanes));
  }
};
struct F16Panel {
  using Row = float;
  using Value = uint16_t;
  static constexpr int64_t k_group = 1;
  static constexpr bool widens = true;
  static inline void widen(const uint16_t* w, int64_t k, float* out) {
    for (int64_t i = 0; i < k * kPanelColumns; i += kLanes) simd::store(out + i, simd::load_f16(w + i));
  }
  template <int kRows>
  static inline __attribute__((always_inline)) void step(Sums<kRows>& sums, const float* a,
                                                         const uint16_t* w) {
    add_products(sums, a, simd::load_f16(w), simd::load_f16(w + kLanes));
  }
};
struct Bf16Panel {
  using Row = float;
  using Value = uint16_t;
  static constexpr int64_t k_group = 2;
  static constexpr bool widens = true;
  static inline void widen(const uint16_t* w, int64_t k, float* out) {
    for (int64_t i = 0; i < k * kPanelColumns; i += 2 * kPanelColumns) {
      for (int64_t half = 0; half < kPanelColumns; half += kLanes) {
        simd::store(out + i + half, simd::load_bf16_even(w + i + 2 * half));
        simd::store(out + i + kPanelColumns + half, simd::load_bf16_odd(w + i + 2 * half));
      }
    }
  }
  template <int kRows>
  static inline __attribute__((always_inline)) void step(Sums<kRows>& sums, const float* a,
                                                         const uint16_t* w) {
    add_products(sums, a, simd::load_bf16_even(w), simd::load_bf16_even(w + kPanelColumns));
    add_products(sums, a + kRows, simd::load_bf16_odd(w), simd::load_bf16_odd(w + kPanelColumns));
  }
};

// W for later: every k brings the next `bytes_per_k` into the second-level cache.
struct Prefetch {
  const char* next = nullptr;
  int64_t bytes_per_k = 0;
};

// sums [kRows][kPanelColumns] = or += rows a times panel w, over k.
template <class Panel, int kRows>
void multiply_tile(const typename Panel::Row* a, const typename Panel::Value* w, int64_t k, bool add,
                   float* out, Prefetch ahead) {
  Sums<kRows> sums;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums.v[r][0] = sums.v[r][1] = simd::zero();
  constexpr int64_t kStepBytes = kPanelColumns * Panel::k_group * static_cast<int64_t>(sizeof(*w));
  for (int64_t i = 0; i < k; i += Panel::k_group) {
    for (int64_t line = 0; line < kStepBytes; line += 64) simd::prefetch_second_level(ahead.next + line);
    ahead.next += ahead.bytes_per_k * Panel::k_group;
    Panel::template step<kRows>(sums, a, w);
    a += kRows * Panel::k_group;
    w += kPanelColumns * Panel::k_group;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* const row = out + r * kPanelColumns;
    if (add) {
      sums.v[r][0] = simd::add(simd::load(row), sums.v[r][0]);
      sums.v[r][1] = simd::add(simd::load(row + kLanes), sums.v[r][1]);
    }
    simd::store(row, sums.v[r][0]);
    simd::store(row + kLanes, sums.v[r][1]);
  }
}

// Picks the tile of `rows` rows at run time.
template <class Panel, int kRows>
inline void multiply_rows(int64_t rows, const typename Panel::Row* a, const typename Panel::Value* w,
                          int64_t k, bool add, float* out, Prefetch ahead) {
  if (rows == kRows) {
    multiply_tile<Panel, kRows>(a, w, k, add, out, ahead);
  } else if constexpr (kRows > 1) {
    multiply_rows<Panel, kRows - 1>(rows, a, w, k, add, out, ahead);
  }
}

// A chunk of a panel, k values from k0 on, times all rows of the block.
template <class Panel, int kRows>
void multiply_chunk(const GemmBlock& block, const typename Panel::Value* w, int64_t k0, int64_t k,
                    float* sums, Prefetch ahead) {
  const auto* const rows = static_cast<const typename Panel::Row*>(block.rows);
  for (int64_t row = 0; row < block.m; row += kRows) {
    const int64_t num_rows = block.m - row < kRows ? block.m - row : kRows;
    multiply_rows<Panel, kRows>(num_rows, rows + row * block.k + k0 * num_rows, w, k, k0 > 0,
                                sums + row * kPanelColumns, ahead);
    ahead.next += k * ahead.bytes_per_k;
  }
}

// One panel times all rows of the block, into sums [m][kPanelColumns]. Panels are read from end to end, once.
template <class Panel, int kRows>
void multiply_panel(const GemmBlock& block, const typename Panel::Value* w, float* sums) {
  constexpr int64_t kBytesPerK = kPanelColumns * static_cast<int64_t>(sizeof(*w));
  const int64_t num_tiles = (block.m + kRows - 1) / kRows;
  for (int64_t k0 = 0; k0 < block.k; k0 += kChunk) {
    const int64_t k = block.k - k0 < kChunk ? block.k - k0 : kChunk;
    // Each tile fetches its share of the chunk after this one; a single tile just reads ahead.
    Prefetch ahead;
    ahead.next = reinterpret_cast<const char*>(w) + (num_tiles == 1 ? kStreamAheadBytes : k * kBytesPerK);
    ahead.bytes_per_k = kBytesPerK / num_tiles;
    if constexpr (Panel::widens) {
      if (num_tiles > 2) {
        alignas(64) float wide[kChunk * kPanelColumns];
        Panel::widen(w, k, wide);
        multiply_chunk<F32Panel, kRows>(block, wide, k0, k, sums, ahead);
        w += k * kPanelColumns;
        continue;
      }
    }
    multiply_chunk<Panel, kRows>(block, w, k0, k, sums, ahead);
    w += k * kPanelColumns;
  }
}

template <class Panel, int kRows>
void multiply_block(const GemmBlock& block) {
  alignas(64) float sums[kMaxRows * kPanelColumns];
  const auto* const panels = static_cast<const typename Panel::Value*>(block.panels);
  for (int64_t column = 0; column < block.n; column += kPanelColumns) {
    multiply_panel<Panel, kRows>(block, panels + column * block.k, sums);
    add_to_c(block, sums, kPanelColumns, column, kPanelColumns);
  }
}

// [k_padded][rows]
inline void pack_float_rows(const float* a, int64_t lda, int64_t rows, int64_t k, int64_t k_padded,
                            void* out) {
  auto* const packed = static_cast<float*>(out);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i) packed[i * rows + r] = a[r * lda + i];
    for (int64_t i = k; i < k_padded; ++i) packed[i * rows + r] = 0.0F;
  }
}

template <class Panel, int kRows>
constexpr GemmKernel make_gemm_kernel() {
  GemmKernel kernel;
  kernel.panel_columns = kPanelColumns;
  kernel.k_group = Panel::k_group;
  kernel.k_multiple = Panel::k_group;
  kernel.row_block = kRows;
  kernel.row_value_bytes = sizeof(typename Panel::Row);
  kernel.max_rows = kMaxRows / kRows * kRows;
  kernel.pack_rows = pack_float_rows;
  kernel.multiply = multiply_block<Panel, kRows>;
  return kernel;
}
template <int kRows>
constexpr GemmKernels make_gemm_kernels() {
  return {make_gemm_kernel<F32Panel, kRows>(), make_gemm_kernel<F16Panel, kRows>(),
          make_gemm_kernel<Bf16Panel, kRows>()};
}

}  // namespace
}  // namespace bifocal::kernels::cpu
