// The `streaming` span kernel: keys and values are read once, in place, for all query heads of the KV head;
// dot products run along the head dimension, so nothing is packed. For few rows, where reading the cache is
// the cost. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/block_reader.h"
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

// packed: [N * R, padded Dk] in the order of Element's loads, the padding zero.
template <class Element>
void pack_queries(const QueryTile& tile, float* packed) {
  const int columns = padded_head_dim(tile.head_dim);
  for (int r = 0; r < tile.num_heads * tile.num_rows; ++r, packed += columns) {
    const float* q = tile.rows[r];
    for (int d = 0; d < tile.head_dim; ++d) {
      packed[load_index<Element>(d, tile.head_dim)] = q[d] * tile.scale;
    }
    for (int d = tile.head_dim; d < columns; ++d) packed[d] = 0;
  }
}

// Rows of values, summed in the order of Element's loads, in their own.
template <class Element>
void restore_order(float* acc, int num_rows, int head_dim) {
  if constexpr (Element::kLoads > 1) {
    constexpr int kStep = kWidth * Element::kLoads;
    const int columns = padded_head_dim(head_dim);
    for (int r = 0; r < num_rows; ++r, acc += columns) {
      for (int begin = 0; begin + kStep <= head_dim; begin += kStep) {
        float loaded[extent(kStep)];
        std::memcpy(loaded, acc + begin, sizeof(loaded));
        for (int d = 0; d < kStep; ++d) acc[begin + d] = loaded[load_index<Element>(d, kStep)];
      }
    }
  }
}

// Logits of kR rows of one KV head, kWidth dot products at a time: kR rows by kWidth / kR keys. The head's
// rows lie `head` bytes behind those of the first. `ahead` as BlockReader gives it, or null.
template <class Element, int kR>
void multiply_keys(const float* q, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                   int64_t head, int head_dim, const char* const* ahead, float* logits) {
  constexpr int kKeys = kWidth / kR;
  constexpr int kStep = kWidth * Element::kLoads;
  const int columns = padded_head_dim(head_dim);
  const int whole = head_dim / kStep * kStep;
  const int64_t row_bytes = head_dim * static_cast<int64_t>(sizeof(typename Element::Storage));
  for (int i = range.begin / kKeys * kKeys; i < range.end; i += kKeys) {
    const typename Element::Storage* row[extent(kKeys)];
    for (int j = 0; j < kKeys; ++j) row[j] = at_head(keys.k[i + j], head);
    Vec acc[extent(kWidth)];
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[j] = zero();
    if constexpr (kR == 1) {
      // Key after key: memory is read in the order of its addresses.
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) {
        if (ahead != nullptr) prefetch_row(ahead[i + j], row_bytes);
        for (int d = 0; d < whole; d += kStep) {
#pragma GCC unroll 2
          for (int n = 0; n < Element::kLoads; ++n) {
            acc[j] = fma(load(q + d + n * kWidth), Element::load_part(row[j] + d, n), acc[j]);
          }
        }
      }
    } else {
      if (ahead != nullptr) {
        for (int j = 0; j < kKeys; ++j) prefetch_row(ahead[i + j], row_bytes);
      }
      for (int d = 0; d < whole; d += kStep) {
#pragma GCC unroll 2
        for (int n = 0; n < Element::kLoads; ++n) {
          Vec k[extent(kKeys)];
#pragma GCC unroll 16
          for (int j = 0; j < kKeys; ++j) k[j] = Element::load_part(row[j] + d, n);
#pragma GCC unroll 16
          for (int r = 0; r < kR; ++r) {
            const Vec x = load(q + r * columns + d + n * kWidth);
#pragma GCC unroll 16
            for (int j = 0; j < kKeys; ++j) acc[r * kKeys + j] = fma(x, k[j], acc[r * kKeys + j]);
          }
        }
      }
    }
    for (int d = whole; d < head_dim; d += kWidth) {
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) {
        const Vec k = load_up_to<Element>(row[j] + d, head_dim - d);
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
// keys in `range`; acc is in the order of Element's loads. The last columns of a head dimension that does not
// fill its loads are one vector of `tail` > 0 elements.
template <class Element, int kR, int kN>
void multiply_strip(const float* weights, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                    int64_t head, int d, int tail, const float* shrink, float* acc, int columns,
                    const char* const* ahead, int64_t row_bytes) {
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
    if (ahead != nullptr) prefetch_row(ahead[i], row_bytes);
    if (tail > 0) {
      v[0] = load_up_to<Element>(row, tail);
    } else {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) {
        v[n] = Element::load_part(row + n / Element::kLoads * Element::kLoads * kWidth, n % Element::kLoads);
      }
    }
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
                     int64_t head, int head_dim, const float* shrink, float* acc, const char* const* ahead) {
  constexpr int kN = kR == 1 ? 8 : kAccumulators / kR;
  const int columns = padded_head_dim(head_dim);
  const int64_t row_bytes = head_dim * static_cast<int64_t>(sizeof(typename Element::Storage));
  int d = 0;
  const auto strip = [&](auto multiply, int width, int tail) {
    multiply(weights, keys, range, head, d, tail, shrink, acc, columns, ahead, row_bytes);
    ahead = nullptr;  // once per key
    d += width;
  };
  constexpr int kStep = Element::kLoads;
  while (d + kN * kWidth <= head_dim) strip(multiply_strip<Element, kR, kN>, kN * kWidth, 0);
  while (d + kStep * kWidth <= head_dim) strip(multiply_strip<Element, kR, kStep>, kStep * kWidth, 0);
  while (d < head_dim) strip(multiply_strip<Element, kR, 1>, kWidth, head_dim - d);
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
  BlockReader<Storage> reader(args, range, keys_per_turn(args));
  while (reader.next()) {
    const KeyBlock<Storage>& keys = reader.keys();
    reader.for_keys([&](KeyRange turn, int h, const char* const* ahead) {
      for_row_groups(args.num_rows, [&]<int kR>(int r) {
        const int row = h * args.num_rows + r;
        multiply_keys<Element, kR>(args.q + row * q_columns, keys, turn, h * args.kv.k_head_stride,
                                   args.head_dim_k, r == 0 ? ahead : nullptr, args.scratch + row * kKeyBlock);
      });
    });
    float shrink[kMaxRows];
    for (int row = 0; row < num_rows; row += kSoftmaxRows) {
      const int rows = num_rows - row < kSoftmaxRows ? num_rows - row : kSoftmaxRows;
      softmax_block(args, row, rows, reader.block(), args.scratch + row * kKeyBlock, shrink + row);
    }
    reader.for_values([&](KeyRange turn, int h, const char* const* ahead) {
      for_row_groups(args.num_rows, [&]<int kR>(int r) {
        const int row = h * args.num_rows + r;
        multiply_values<Element, kR>(args.scratch + row * kKeyBlock, keys, turn, h * args.kv.v_head_stride,
                                     args.head_dim_v, turn.begin == keys.begin ? shrink + row : nullptr,
                                     args.state.acc + row * v_columns, r == 0 ? ahead : nullptr);
      });
    });
  }
  restore_order<Element>(args.state.acc, num_rows, args.head_dim_v);
}

template <class Element>
constexpr SpanKernel make_kernel() {
  return {{kMaxRowsPerHead, kMaxRowsPerHead, kMaxRows, kMaxRows},
          scratch_floats,
          query_floats,
          pack_queries<Element>,
          span<Element>};
}
constexpr SpanKernels kKernels{
    {make_kernel<F32>(), make_kernel<F16>(), make_kernel<Bf16>(), make_kernel<E4m3>()}};

}  // namespace streaming
}  // namespace
}  // namespace bifocal::kernels::cpu
