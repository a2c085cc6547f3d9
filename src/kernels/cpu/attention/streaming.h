// The `streaming` span kernel: keys and values are read once, in place, for all query heads of the KV head;
// dot products run along the head dimension, so nothing is packed. For few rows, where reading the cache is
// the cost. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/softmax.h"

namespace bifocal::kernels::cpu {
namespace {
namespace streaming {

using namespace simd;

constexpr int kMaxRows = 32;
// Accumulators that stay in registers beside their operands.
constexpr int kAccumulators = kWidth == 16 ? 16 : 8;

// Scratch: logits [kMaxRows, kKeyBlock].
inline int64_t scratch_floats(int, int) {
  return int64_t{kMaxRows} * kKeyBlock;
}
inline int64_t query_floats(int head_dim_k) {
  return int64_t{kMaxRows} * padded_head_dim(head_dim_k);
}

// packed: [rows, padded Dk], the padding zero.
inline void pack_queries(const QueryTile& tile, float* packed) {
  const int columns = padded_head_dim(tile.head_dim);
  for (int r = 0; r < tile.num_rows; ++r) {
    const int row = tile.row_begin + r;
    const float* q = tile.q + (row / tile.group) * tile.stride + int64_t{row % tile.group} * tile.head_dim;
    float* out = packed + int64_t{r} * columns;
    for (int d = 0; d < tile.head_dim; ++d) out[d] = q[d] * tile.scale;
    for (int d = tile.head_dim; d < columns; ++d) out[d] = 0;
  }
}

// Rows of a cache that will be read soon, fetched a row at a time between the arithmetic.
template <class Storage>
struct Ahead {
  const Storage* const* rows = nullptr;  // null: nothing to fetch
  int bytes = 0;                         // of a row
  void fetch(int i) const {
    if (rows == nullptr) return;
    const char* p = reinterpret_cast<const char*>(rows[i]);
    for (int offset = 0; offset < bytes; offset += 64) prefetch(p + offset);
  }
};

// Logits of kR rows, kWidth dot products at a time: kR rows by kWidth / kR keys.
template <class Element, int kR>
void multiply_keys(const float* q, const KeyBlock<typename Element::Storage>& keys, int head_dim,
                   Ahead<typename Element::Storage> values, float* logits) {
  constexpr int kKeys = kWidth / kR;
  const int columns = padded_head_dim(head_dim);
  for (int i = keys.begin / kKeys * kKeys; i < keys.end; i += kKeys) {
    const auto* const* row = keys.k + i;
    Vec acc[extent(kWidth)];
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[j] = zero();
    int d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) {
      Vec k[extent(kKeys)];
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) k[j] = Element::load(row[j] + d);
#pragma GCC unroll 16
      for (int r = 0; r < kR; ++r) {
        const Vec x = load(q + r * columns + d);
#pragma GCC unroll 16
        for (int j = 0; j < kKeys; ++j) acc[r * kKeys + j] = fma(x, k[j], acc[r * kKeys + j]);
      }
    }
    if (d < head_dim) {
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) {
        const Vec k = load_tail<Element>(row[j] + d, head_dim - d);
#pragma GCC unroll 16
        for (int r = 0; r < kR; ++r)
          acc[r * kKeys + j] = fma(load(q + r * columns + d), k, acc[r * kKeys + j]);
      }
    }
    for (int j = 0; j < kKeys; ++j) values.fetch(i + j);
    float sums[extent(kWidth)];
    store(sums, sum_each(acc));
    for (int r = 0; r < kR; ++r)
      std::memcpy(logits + r * kKeyBlock + i, sums + r * kKeys, sizeof(float) * kKeys);
  }
}

// Columns [d, d + kN vectors) of acc = acc * shrink + weights * values, for kR rows. The last columns of a
// head dimension that does not fill a vector are `tail` > 0 elements.
template <class Element, int kR, int kN>
void multiply_strip(const float* weights, const KeyBlock<typename Element::Storage>& keys, int d, int tail,
                    const float* shrink, float* acc, int columns,
                    Ahead<typename Element::Storage> next_keys) {
  Vec out[extent(kR)][extent(kN)];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) out[r][n] = mul(load(acc + r * columns + d + n * kWidth), set1(shrink[r]));
  }
  for (int i = keys.begin; i < keys.end; ++i) {
    const auto* row = keys.v[i] + d;
    Vec v[extent(kN)];
    if (tail > 0) {
      v[0] = load_tail<Element>(row, tail);
    } else {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) v[n] = Element::load(row + n * kWidth);
    }
    next_keys.fetch(i);
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
      const Vec w = set1(weights[r * kKeyBlock + i]);
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) out[r][n] = fma(w, v[n], out[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) store(acc + r * columns + d + n * kWidth, out[r][n]);
  }
}

template <class Element, int kR>
void multiply_values(const float* weights, const KeyBlock<typename Element::Storage>& keys, int head_dim,
                     const float* shrink, float* acc, Ahead<typename Element::Storage> next_keys) {
  constexpr int kN = kR == 1 ? 8 : kAccumulators / kR;
  const int columns = padded_head_dim(head_dim);
  int d = 0;
  const auto strip = [&](auto multiply, int width, int tail) {
    multiply(weights, keys, d, tail, shrink, acc, columns, next_keys);
    next_keys.rows = nullptr;
    d += width;
  };
  while (d + kN * kWidth <= head_dim) strip(multiply_strip<Element, kR, kN>, kN * kWidth, 0);
  while (d + kWidth <= head_dim) strip(multiply_strip<Element, kR, 1>, kWidth, 0);
  if (d < head_dim) strip(multiply_strip<Element, kR, 1>, kWidth, head_dim - d);
}

// Calls step<8>, <4>, <2> or <1> for the rows from 0 on, at most kLargest at a time.
template <int kLargest, class Step>
void for_row_groups(int num_rows, Step step) {
  int r = 0;
  const auto repeat = [&]<int kR>() {
    if constexpr (kR <= kLargest) {
      for (; r + kR <= num_rows; r += kR) step.template operator()<kR>(r);
    }
  };
  repeat.template operator()<8>();
  repeat.template operator()<4>();
  repeat.template operator()<2>();
  repeat.template operator()<1>();
}

template <class Element>
void span(const SpanArgs& args) {
  using Storage = typename Element::Storage;
  const int q_columns = padded_head_dim(args.head_dim_k);
  const int v_columns = padded_head_dim(args.head_dim_v);
  const int key_bytes = args.head_dim_k * static_cast<int>(sizeof(Storage));
  const int value_bytes = args.head_dim_v * static_cast<int>(sizeof(Storage));
  clear_state(args.state, args.num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin >= range.end) return;
  KeyBlock<Storage> blocks[2];
  int block = range.begin / kKeyBlock * kKeyBlock;
  locate_block(args.kv, block, range, &blocks[0]);
  for (int current = 0; block < range.end; block += kKeyBlock, current ^= 1) {
    const KeyBlock<Storage>& keys = blocks[current];
    Ahead<Storage> values{keys.v, value_bytes};
    for_row_groups<(kWidth < 8 ? kWidth : 8)>(args.num_rows, [&]<int kR>(int r) {
      multiply_keys<Element, kR>(args.q + r * q_columns, keys, args.head_dim_k, values,
                                 args.scratch + r * kKeyBlock);
      values.rows = nullptr;
    });
    float shrink[kMaxRows];
    for (int r = 0; r < args.num_rows; ++r) {
      shrink[r] = softmax_block(args.scratch + r * kKeyBlock, visible_in_block(args, r, block), args.softcap,
                                args.state.max + r, args.state.sum + r);
    }
    Ahead<Storage> next_keys;
    if (block + kKeyBlock < range.end) {
      locate_block(args.kv, block + kKeyBlock, range, &blocks[current ^ 1]);
      next_keys = {blocks[current ^ 1].k, key_bytes};
    }
    for_row_groups<4>(args.num_rows, [&]<int kR>(int r) {
      multiply_values<Element, kR>(args.scratch + r * kKeyBlock, keys, args.head_dim_v, shrink + r,
                                   args.state.acc + r * v_columns, next_keys);
      next_keys.rows = nullptr;
    });
  }
}

constexpr SpanKernel kKernel{
    kMaxRows, scratch_floats, query_floats, pack_queries, {span<F32>, span<F16>, span<Bf16>, span<E4m3>}};

}  // namespace streaming
}  // namespace
}  // namespace bifocal::kernels::cpu
