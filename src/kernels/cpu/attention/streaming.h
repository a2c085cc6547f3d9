// The `streaming` span kernel: keys and values are read once, in place, for all query heads of the KV head;
// dot products run along the head dimension, so nothing is packed. For few rows, where reading the cache is
// the cost. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/softmax.h"

namespace bifocal::kernels::cpu {
namespace {
namespace streaming {

using namespace simd;

constexpr int kMaxRowsPerHead = 32;
constexpr int kMaxRows = 128;
// Accumulators that stay in registers beside their operands.
constexpr int kAccumulators = kWidth == 16 ? 16 : 8;

template <class Storage>
const Storage* at_head(const Storage* row, int64_t head_bytes) {
  return reinterpret_cast<const Storage*>(reinterpret_cast<const char*>(row) + head_bytes);
}

// Scratch: logits [kMaxRows, kKeyBlock].
inline int64_t scratch_floats(int, int) {
  return int64_t{kMaxRows} * kKeyBlock;
}
inline int64_t query_floats(int head_dim_k) {
  return int64_t{kMaxRows} * padded_head_dim(head_dim_k);
}

// packed: [N * R, padded Dk], the padding zero.
inline void pack_queries(const QueryTile& tile, float* packed) {
  const int columns = padded_head_dim(tile.head_dim);
  for (int r = 0; r < tile.num_heads * tile.num_rows; ++r, packed += columns) {
    const float* q = tile.rows[r];
    for (int d = 0; d < tile.head_dim; ++d) packed[d] = q[d] * tile.scale;
    for (int d = tile.head_dim; d < columns; ++d) packed[d] = 0;
  }
}

// For kernels that need all registers in their inner loops: outside of these.
inline void fetch_rows(FetchAhead* ahead, int count) {
  if (ahead == nullptr) return;
  for (int i = 0; i < count; ++i) ahead->fetch_row();
}

// Logits of kR rows of one KV head, kWidth dot products at a time: kR rows by kWidth / kR keys. The head's
// rows lie `head` bytes behind those of the first.
template <class Element, int kR>
void multiply_keys(const float* q, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                   int64_t head, int head_dim, FetchAhead* ahead, float* logits) {
  constexpr int kKeys = kWidth / kR;
  const int columns = padded_head_dim(head_dim);
  for (int i = range.begin / kKeys * kKeys; i < range.end; i += kKeys) {
    const typename Element::Storage* row[extent(kKeys)];
    for (int j = 0; j < kKeys; ++j) row[j] = at_head(keys.k[i + j], head);
    if constexpr (kR > 1) fetch_rows(ahead, kKeys);
    Vec acc[extent(kWidth)];
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[j] = zero();
    int d = 0;
    if constexpr (kR == 1) {
      // Key after key: memory is read in the order of its addresses.
      const int whole = head_dim / kWidth * kWidth;
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) {
        if (ahead != nullptr) ahead->fetch_row();
        for (int e = 0; e < whole; e += kWidth) acc[j] = fma(load(q + e), Element::load(row[j] + e), acc[j]);
      }
      d = whole;
    }
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
    float sums[extent(kWidth)];
    store(sums, sum_each(acc));
    for (int r = 0; r < kR; ++r)
      std::memcpy(logits + r * kKeyBlock + i, sums + r * kKeys, sizeof(float) * kKeys);
  }
}

// Columns [d, d + kN vectors) of acc = acc * shrink + weights * values, for kR rows of one KV head and the
// keys in `range`. The last columns of a head dimension that does not fill a vector are `tail` > 0 elements.
template <class Element, int kR, int kN>
void multiply_strip(const float* weights, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                    int64_t head, int d, int tail, const float* shrink, float* acc, int columns,
                    FetchAhead* ahead) {
  Vec out[extent(kR)][extent(kN)];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) {
      out[r][n] = load(acc + r * columns + d + n * kWidth);
      if (shrink != nullptr) out[r][n] = mul(out[r][n], set1(shrink[r]));
    }
  }
  for (int i = range.begin; i < range.end; ++i) {
    const auto* row = at_head(keys.v[i], head) + d;
    Vec v[extent(kN)];
    if (tail > 0) {
      v[0] = load_tail<Element>(row, tail);
    } else {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) v[n] = Element::load(row + n * kWidth);
    }
    if constexpr (kR == 1) fetch_rows(ahead, 1);
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
void multiply_values(const float* weights, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                     int64_t head, int head_dim, const float* shrink, float* acc, FetchAhead* ahead) {
  constexpr int kN = kR == 1 ? 8 : kAccumulators / kR;
  const int columns = padded_head_dim(head_dim);
  if constexpr (kR > 1) {
    fetch_rows(ahead, range.end - range.begin);
    ahead = nullptr;
  }
  int d = 0;
  const auto strip = [&](auto multiply, int width, int tail) {
    multiply(weights, keys, range, head, d, tail, shrink, acc, columns, ahead);
    ahead = nullptr;  // once per key
    d += width;
  };
  while (d + kN * kWidth <= head_dim) strip(multiply_strip<Element, kR, kN>, kN * kWidth, 0);
  while (d + kWidth <= head_dim) strip(multiply_strip<Element, kR, 1>, kWidth, 0);
  if (d < head_dim) strip(multiply_strip<Element, kR, 1>, kWidth, head_dim - d);
}

// Calls step<4>, step<2> or step<1> for the rows from 0 on: 4 x 4 operands feed 16 products, the fewest loads
// for each.
template <class Step>
void for_row_groups(int num_rows, Step step) {
  int r = 0;
  for (; r + 4 <= num_rows; r += 4) step.template operator()<4>(r);
  for (; r + 2 <= num_rows; r += 2) step.template operator()<2>(r);
  for (; r < num_rows; ++r) step.template operator()<1>(r);
}

template <class Element>
void span(const SpanArgs& args) {
  using Storage = typename Element::Storage;
  const int q_columns = padded_head_dim(args.head_dim_k);
  const int v_columns = padded_head_dim(args.head_dim_v);
  const int num_rows = args.num_heads * args.num_rows;
  clear_state(args.state, num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin == range.end) return;
  const int turn_keys = keys_per_turn(args);
  FetchAhead ahead(args, range.begin, args.fetch_end, turn_keys);
  for (int block = range.begin / kKeyBlock * kKeyBlock; block < range.end; block += kKeyBlock) {
    KeyBlock<Storage> keys;
    locate_block(args.kv, block, range, &keys);
    // fn(keys of the turn, head) in the order of addresses.
    const auto for_turns = [&](auto fn) {
      for (int begin = keys.begin / turn_keys * turn_keys; begin < keys.end; begin += turn_keys) {
        const int end = begin + turn_keys;
        const KeyRange turn{begin < keys.begin ? keys.begin : begin, end < keys.end ? end : keys.end};
        for (int h = 0; h < args.num_heads; ++h) fn(turn, h);
      }
    };
    for_turns([&](KeyRange turn, int h) {
      for_row_groups(args.num_rows, [&]<int kR>(int r) {
        const int row = h * args.num_rows + r;
        multiply_keys<Element, kR>(args.q + row * q_columns, keys, turn, h * args.kv.k_head_stride,
                                   args.head_dim_k, r == 0 ? &ahead : nullptr,
                                   args.scratch + row * kKeyBlock);
      });
    });
    float shrink[kMaxRows];
    for (int row = 0; row < num_rows; row += kSoftmaxRows) {
      const int rows = num_rows - row < kSoftmaxRows ? num_rows - row : kSoftmaxRows;
      softmax_block(args, row, rows, block, args.scratch + row * kKeyBlock, shrink + row);
    }
    for_turns([&](KeyRange turn, int h) {
      for_row_groups(args.num_rows, [&]<int kR>(int r) {
        const int row = h * args.num_rows + r;
        multiply_values<Element, kR>(args.scratch + row * kKeyBlock, keys, turn, h * args.kv.v_head_stride,
                                     args.head_dim_v, turn.begin == keys.begin ? shrink + row : nullptr,
                                     args.state.acc + row * v_columns, r == 0 ? &ahead : nullptr);
      });
    });
  }
}

template <class Element>
constexpr SpanKernel make_kernel() {
  return {{kMaxRowsPerHead, kMaxRowsPerHead, kMaxRows, kMaxRows},
          scratch_floats,
          query_floats,
          pack_queries,
          span<Element>};
}
constexpr SpanKernels kKernels{
    {make_kernel<F32>(), make_kernel<F16>(), make_kernel<Bf16>(), make_kernel<E4m3>()}};

}  // namespace streaming
}  // namespace
}  // namespace bifocal::kernels::cpu
