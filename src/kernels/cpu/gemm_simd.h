// Register-tiled products written once with simd.h: kRows rows of A times a panel of two vectors, f32 sums.
// Included by files that choose kRows for their register count.
#pragma once

#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

using simd::kLanes;
using simd::Vec;

constexpr int64_t kPanelColumns = 2 * kLanes;
constexpr int64_t kChunk = 256;  // of K: a chunk of a panel stays in the first-level cache while rows pass
constexpr int64_t kPrefetchBytes = 1024;

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

// Weight types: step() takes k_group values of every row and of the panel's columns.
struct F32Panel {
  using Row = float;
  using Value = float;
  static constexpr int64_t k_group = 1;
  template <int kRows>
  static inline __attribute__((always_inline)) void step(Sums<kRows>& sums, const float* a, const float* w) {
    add_products(sums, a, simd::load(w), simd::load(w + kLanes));
  }
};
struct F16Panel {
  using Row = float;
  using Value = uint16_t;
  static constexpr int64_t k_group = 1;
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
  template <int kRows>
  static inline __attribute__((always_inline)) void step(Sums<kRows>& sums, const float* a,
                                                         const uint16_t* w) {
    add_products(sums, a, simd::load_bf16_even(w), simd::load_bf16_even(w + kPanelColumns));
    add_products(sums, a + kRows, simd::load_bf16_odd(w), simd::load_bf16_odd(w + kPanelColumns));
  }
};

// Where a tile's sums of one chunk go. The first chunk starts C.
struct Target {
  float* c = nullptr;
  int64_t ldc = 0;
  int64_t columns = 0;  // valid ones, at most kPanelColumns
  const float* bias = nullptr;
  bool load = true;  // add to what C holds
};

inline void add_to_target(const Target& t, float* c, const float* bias, Vec sum, int64_t columns) {
  if (columns <= 0) return;
  const bool whole = columns >= kLanes;
  Vec total = simd::zero();
  if (t.load) total = whole ? simd::load(c) : simd::load_first(c, columns);
  if (bias != nullptr) total = simd::add(total, whole ? simd::load(bias) : simd::load_first(bias, columns));
  total = simd::add(total, sum);
  if (whole) {
    simd::store(c, total);
  } else {
    simd::store_first(c, total, columns);
  }
}

template <class Panel, int kRows>
void multiply_tile(const typename Panel::Row* a, const typename Panel::Value* w, int64_t k,
                   const Target& target) {
  Sums<kRows> sums;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums.v[r][0] = sums.v[r][1] = simd::zero();
  constexpr int64_t kStepBytes = kPanelColumns * Panel::k_group * static_cast<int64_t>(sizeof(*w));
  for (int64_t i = 0; i < k; i += Panel::k_group) {
    for (int64_t line = 0; line < kStepBytes; line += 64) {
      simd::prefetch(reinterpret_cast<const char*>(w) + kPrefetchBytes + line);
    }
    Panel::template step<kRows>(sums, a, w);
    a += kRows * Panel::k_group;
    w += kPanelColumns * Panel::k_group;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* const c = target.c + r * target.ldc;
    add_to_target(target, c, target.bias, sums.v[r][0], target.columns);
    add_to_target(target, c + kLanes, target.bias == nullptr ? nullptr : target.bias + kLanes, sums.v[r][1],
                  target.columns - kLanes);
  }
}

// Picks the tile of `rows` rows at run time.
template <class Panel, int kRows>
inline void multiply_rows(int64_t rows, const typename Panel::Row* a, const typename Panel::Value* w,
                          int64_t k, const Target& target) {
  if (rows == kRows) {
    multiply_tile<Panel, kRows>(a, w, k, target);
  } else if constexpr (kRows > 1) {
    multiply_rows<Panel, kRows - 1>(rows, a, w, k, target);
  }
}

template <class Panel, int kRows>
void multiply_block(const GemmBlock& block) {
  const auto* const rows = static_cast<const typename Panel::Row*>(block.rows);
  const auto* const panels = static_cast<const typename Panel::Value*>(block.panels);
  // Few rows: read each panel from end to end, as it lies in memory. Many: keep a chunk of A in the
  // second-level cache while all panels pass. C takes its chunks in the same order either way.
  const int64_t span = block.m <= kRows ? block.k : kChunk;
  for (int64_t span_begin = 0; span_begin < block.k; span_begin += span) {
    const int64_t span_end = span_begin + span < block.k ? span_begin + span : block.k;
    for (int64_t column = 0; column < block.n; column += kPanelColumns) {
      for (int64_t k0 = span_begin; k0 < span_end; k0 += kChunk) {
        const int64_t k = span_end - k0 < kChunk ? span_end - k0 : kChunk;
        const auto* const w = panels + column * block.k + k0 * kPanelColumns;
        for (int64_t row = 0; row < block.m; row += kRows) {
          const int64_t num_rows = block.m - row < kRows ? block.m - row : kRows;
          Target target;
          target.c = block.c + row * block.ldc + column;
          target.ldc = block.ldc;
          target.columns = block.n - column;
          target.load = k0 > 0 || block.accumulate;
          target.bias = k0 > 0 || block.bias == nullptr ? nullptr : block.bias + column;
          multiply_rows<Panel, kRows>(num_rows, rows + row * block.k + k0 * num_rows, w, k, target);
        }
      }
    }
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
  kernel.block_columns = 4 * kPanelColumns;
  kernel.block_rows = 504 / kRows * kRows;  // times kChunk floats: half a megabyte of A
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
