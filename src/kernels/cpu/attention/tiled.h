// The `tiled` span kernel: each block of keys and values is converted and packed once for all rows of the
// tile, then two products of register tiles follow: logits = Q K^T and acc += P V. For many rows of one KV
// head. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/softmax.h"

namespace bifocal::kernels::cpu {
namespace {
namespace tiled {

using namespace simd;

// A register tile is kRows x kVectors accumulators, and leaves room for one column of operands and a
// broadcast.
constexpr int kVectors = 2;
constexpr int kRows = kWidth == 16 ? 12 : kWidth == 8 ? 6 : 4;
constexpr int kPanelKeys = kVectors * kWidth;
// Packing a block costs as much as multiplying about 8 rows: with this many it hardly shows.
constexpr int kMaxRows = 192;
static_assert(kRows <= kSoftmaxRows && kMaxRows % kRows == 0 && kKeyBlock % kPanelKeys == 0);

// Scratch: logits [kMaxRows, kKeyBlock], keys [kKeyBlock / kPanelKeys][Dk][kPanelKeys], values [kKeyBlock,
// padded Dv].
inline int64_t scratch_floats(int head_dim_k, int head_dim_v) {
  return int64_t{kKeyBlock} * (kMaxRows + padded_head_dim(head_dim_k) + padded_head_dim(head_dim_v));
}
inline int64_t query_floats(int head_dim_k) {
  return int64_t{kMaxRows} * head_dim_k;
}

// packed: for each KV head [groups of kRows rows][Dk][kRows]; rows that its last group lacks are never read.
inline void pack_queries(const QueryTile& tile, float* packed) {
  for (int h = 0; h < tile.num_heads; ++h) {
    const float* const* head = tile.rows + h * tile.num_rows;
    for (int first = 0; first < tile.num_rows; first += kRows, packed += kRows * tile.head_dim) {
      for (int i = 0; i < kRows && first + i < tile.num_rows; ++i) {
        const float* q = head[first + i];
        for (int d = 0; d < tile.head_dim; ++d) packed[d * kRows + i] = q[d] * tile.scale;
      }
    }
  }
}

// C[kM, kN vectors] = (C * shrink, or 0) + A[kM, depth] B[depth, kN vectors]: each element is one chain of
// fused multiply-adds over the depth. A(r, i) is a[r * kARow + i * kAStep].
template <int kM, int kN, int kARow, int kAStep>
void multiply(const float* a, const float* b, int64_t b_stride, int depth, const float* shrink, float* c,
              int64_t c_stride) {
  Vec acc[extent(kM)][extent(kN)];
#pragma GCC unroll 12
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kN; ++n) {
      acc[r][n] = shrink == nullptr ? zero() : mul(load(c + r * c_stride + n * kWidth), set1(shrink[r]));
    }
  }
  for (int i = 0; i < depth; ++i) {
    Vec column[extent(kN)];
#pragma GCC unroll 2
    for (int n = 0; n < kN; ++n) column[n] = load(b + n * kWidth);
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
      const Vec x = set1(a[r * kARow]);
#pragma GCC unroll 2
      for (int n = 0; n < kN; ++n) acc[r][n] = fma(x, column[n], acc[r][n]);
    }
    a += kAStep;
    b += b_stride;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kN; ++n) store(c + r * c_stride + n * kWidth, acc[r][n]);
  }
}

// Logits of `rows` <= kM rows with the first num_keys keys.
template <int kM>
void multiply_keys(int rows, const float* q, const float* keys, int head_dim, int num_keys, float* logits) {
  if constexpr (kM > 1) {
    if (rows < kM) return multiply_keys<kM - 1>(rows, q, keys, head_dim, num_keys, logits);
  }
  for (int i = 0; i < num_keys; i += kPanelKeys) {
    multiply<kM, kVectors, 1, kRows>(q, keys + int64_t{i} * head_dim, kPanelKeys, head_dim, nullptr,
                                     logits + i, kKeyBlock);
  }
}

// acc = acc * shrink + weights * values for `rows` <= kM rows.
template <int kM>
void multiply_values(int rows, const float* weights, const float* values, int num_keys, int columns,
                     const float* shrink, float* acc) {
  if constexpr (kM > 1) {
    if (rows < kM) return multiply_values<kM - 1>(rows, weights, values, num_keys, columns, shrink, acc);
  }
  int d = 0;
  for (; d + kPanelKeys <= columns; d += kPanelKeys) {
    multiply<kM, kVectors, kKeyBlock, 1>(weights, values + d, columns, num_keys, shrink, acc + d, columns);
  }
  for (; d < columns; d += kWidth) {
    multiply<kM, 1, kKeyBlock, 1>(weights, values + d, columns, num_keys, shrink, acc + d, columns);
  }
}

// keys: [panels][Dk][kPanelKeys], whole panels. before_rows() is called before each kWidth rows are read.
template <class Element, class BeforeRows>
void pack_keys(const typename Element::Storage* const* rows, int num_keys, int head_dim, float* keys,
               BeforeRows before_rows) {
  const int padded = (num_keys + kPanelKeys - 1) / kPanelKeys * kPanelKeys;
  for (int first = 0; first < padded; first += kWidth) {
    before_rows();
    const auto* const* row = rows + first;
    float* panel = keys + int64_t{first / kPanelKeys} * kPanelKeys * head_dim + first % kPanelKeys;
    int d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) {
      Vec block[extent(kWidth)];
      for (int i = 0; i < kWidth; ++i) block[i] = Element::load(row[i] + d);
      transpose(block);
      for (int i = 0; i < kWidth; ++i) store(panel + int64_t{d + i} * kPanelKeys, block[i]);
    }
    for (; d < head_dim; ++d) {
      for (int i = 0; i < kWidth; ++i) panel[int64_t{d} * kPanelKeys + i] = Element::value(row[i][d]);
    }
  }
}

template <class Element>
void pack_values(const typename Element::Storage* const* rows, int begin, int end, int head_dim,
                 float* values) {
  const int columns = padded_head_dim(head_dim);
  for (int i = begin; i < end; ++i) {
    float* out = values + int64_t{i} * columns;
    int d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) store(out + d, Element::load(rows[i] + d));
    for (; d < head_dim; ++d) out[d] = Element::value(rows[i][d]);
    for (; d < columns; ++d) out[d] = 0;
  }
}

template <class Element>
void span(const SpanArgs& args) {
  using Storage = typename Element::Storage;
  const int columns = padded_head_dim(args.head_dim_v);
  float* logits = args.scratch;
  float* keys = logits + kMaxRows * kKeyBlock;
  float* values = keys + int64_t{kKeyBlock} * padded_head_dim(args.head_dim_k);
  clear_state(args.state, args.num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  for (int block = range.begin / kKeyBlock * kKeyBlock; block < range.end; block += kKeyBlock) {
    KeyBlock<Storage> located;
    locate_block(args.kv, block, range, &located);
    pack_keys<Element>(located.k, located.end, args.head_dim_k, keys, [] {});
    pack_values<Element>(located.v, located.begin, located.end, args.head_dim_v, values);
    // fn(first row, rows, keys that some of them see) for each register tile.
    const auto for_groups = [&](auto fn) {
      for (int r = 0; r < args.num_rows; r += kRows) {
        const int rows = args.num_rows - r < kRows ? args.num_rows - r : kRows;
        const KeyRange visible = visible_to_rows(args, r, rows, block);
        if (visible.begin < visible.end) fn(r, rows, visible);
      }
    };
    // All rows' products with the keys, then all with the values: the first-level cache holds one of the two.
    float shrink[kMaxRows];
    for_groups([&](int r, int rows, KeyRange visible) {
      float* group = logits + r * kKeyBlock;
      multiply_keys<kRows>(rows, args.q + int64_t{r} * args.head_dim_k, keys, args.head_dim_k, visible.end,
                           group);
      softmax_block(args, r, rows, block, group, shrink + r);
    });
    for_groups([&](int r, int rows, KeyRange visible) {
      multiply_values<kRows>(rows, logits + r * kKeyBlock + visible.begin,
                             values + int64_t{visible.begin} * columns, visible.end - visible.begin, columns,
                             shrink + r, args.state.acc + int64_t{r} * columns);
    });
  }
}

template <class Element>
constexpr SpanKernel make_kernel() {
  return {{kMaxRows, 0, 1, kMaxRows}, scratch_floats, query_floats, pack_queries, span<Element>};
}
constexpr SpanKernels kKernels{
    {make_kernel<F32>(), make_kernel<F16>(), make_kernel<Bf16>(), make_kernel<E4m3>()}};

}  // namespace tiled
}  // namespace
}  // namespace bifocal::kernels::cpu
