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

// Row r of KV head h among the tile's rows.
inline int row_of(const SpanArgs& args, int h, int r) {
  return h * args.num_rows + r;
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

// Asks for the row of the block's key `key`. Where there is little to compute for it, now and then also for a
// line of what its head has 3 KiB further on: the address of the next 4 KiB is then known when rows are asked
// for there.
template <int kR>
void prefetch_key(const char* row, int64_t row_bytes, int key) {
  constexpr int kKeysPerTouch = 8;
  constexpr int64_t kTouchLeadBytes = 3072;
  prefetch_row(row, row_bytes);
  if (kR == 1 && key % kKeysPerTouch == 0) prefetch_second_level(row + kTouchLeadBytes);
}

// Logits of rows [r, r + kR) of KV heads [h, h + kH), kWidth dot products at a time. `ahead` as BlockReader
// gives it from head h on, or null.
template <class Element, int kR, int kH>
void multiply_keys(const SpanArgs& args, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                   int h, int r, const RowsAhead* ahead) {
  constexpr int kRows = kH * kR;
  constexpr int kKeys = kWidth / kRows;
  constexpr int kStep = kWidth * Element::kLoads;
  const int head_dim = args.head_dim_k;
  const int whole = head_dim / kStep * kStep;
  const int64_t row_bytes = head_dim * static_cast<int64_t>(sizeof(typename Element::Storage));
  const float* q[extent(kRows)];
  for (int n = 0; n < kRows; ++n) {
    q[n] = args.q + row_of(args, h + n / kR, r + n % kR) * padded_head_dim(head_dim);
  }
  for (int i = range.begin / kKeys * kKeys; i < range.end; i += kKeys) {
    const typename Element::Storage* k[extent(kH)][extent(kKeys)];
    for (int n = 0; n < kH; ++n) {
      for (int j = 0; j < kKeys; ++j) k[n][j] = at_head(keys.k[i + j], (h + n) * args.kv.k_head_stride);
    }
    Vec acc[extent(kRows)][extent(kKeys)];
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[j / kKeys][j % kKeys] = zero();
    if constexpr (kR == 1) {
      // Key after key: memory is read in the order of its addresses.
#pragma GCC unroll 16
      for (int j = 0; j < kKeys; ++j) {
#pragma GCC unroll 2
        for (int n = 0; n < kH; ++n) {
          if (ahead != nullptr) prefetch_key<kR>(ahead[n][i + j], row_bytes, i + j);
          for (int d = 0; d < whole; d += kStep) {
#pragma GCC unroll 2
            for (int part = 0; part < Element::kLoads; ++part) {
              const Vec x = load(q[n] + d + part * kWidth);
              acc[n][j] = fma(x, Element::load_part(k[n][j] + d, part), acc[n][j]);
            }
          }
        }
      }
    } else {
      if (ahead != nullptr) {
        for (int j = 0; j < kKeys; ++j) {
          for (int n = 0; n < kH; ++n) prefetch_key<kR>(ahead[n][i + j], row_bytes, i + j);
        }
      }
      for (int d = 0; d < whole; d += kStep) {
#pragma GCC unroll 2
        for (int part = 0; part < Element::kLoads; ++part) {
#pragma GCC unroll 2
          for (int n = 0; n < kH; ++n) {
            Vec key[extent(kKeys)];
#pragma GCC unroll 16
            for (int j = 0; j < kKeys; ++j) key[j] = Element::load_part(k[n][j] + d, part);
#pragma GCC unroll 4
            for (int row = n * kR; row < (n + 1) * kR; ++row) {
              const Vec x = load(q[row] + d + part * kWidth);
#pragma GCC unroll 16
              for (int j = 0; j < kKeys; ++j) acc[row][j] = fma(x, key[j], acc[row][j]);
            }
          }
        }
      }
    }
    for (int d = whole; d < head_dim; d += kWidth) {
#pragma GCC unroll 2
      for (int n = 0; n < kH; ++n) {
#pragma GCC unroll 16
        for (int j = 0; j < kKeys; ++j) {
          const Vec key = load_up_to<Element>(k[n][j] + d, head_dim - d);
#pragma GCC unroll 4
          for (int row = n * kR; row < (n + 1) * kR; ++row)
            acc[row][j] = fma(load(q[row] + d), key, acc[row][j]);
        }
      }
    }
    float sums[extent(kWidth)];
    store(sums, sum_each(reinterpret_cast<const Vec(&)[extent(kWidth)]>(acc)));
    for (int n = 0; n < kRows; ++n) {
      float* logits = args.scratch + row_of(args, h + n / kR, r + n % kR) * kKeyBlock + i;
      std::memcpy(logits, sums + n * kKeys, sizeof(float) * kKeys);
    }
  }
}

// Columns [d, d + kN vectors) of acc = acc * shrink + weights * values, for rows [r, r + kR) of KV heads
// [h, h + kH) and the keys in `range`; acc is in the order of Element's loads. The last columns of a head
// dimension that does not fill its loads are one vector of `tail` > 0 elements.
template <class Element, int kR, int kH, int kN>
void multiply_strip(const SpanArgs& args, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                    int h, int r, int d, int tail, const float* shrink, const RowsAhead* ahead) {
  constexpr int kRows = kH * kR;
  const int64_t row_bytes = args.head_dim_v * static_cast<int64_t>(sizeof(typename Element::Storage));
  float* acc[extent(kRows)];
  const float* weights[extent(kRows)];
  Vec out[extent(kRows)][extent(kN)];
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
    const int row = row_of(args, h + n / kR, r + n % kR);
    acc[n] = args.state.acc + row * padded_head_dim(args.head_dim_v) + d;
    weights[n] = args.scratch + row * kKeyBlock;
#pragma GCC unroll 8
    for (int v = 0; v < kN; ++v) {
      out[n][v] = load(acc[n] + v * kWidth);
      if (shrink != nullptr) out[n][v] = mul(out[n][v], set1(shrink[row]));
    }
  }
  for (int i = range.begin; i < range.end; ++i) {
#pragma GCC unroll 2
    for (int n = 0; n < kH; ++n) {
      const auto* from = at_head(keys.v[i], (h + n) * args.kv.v_head_stride) + d;
      if (ahead != nullptr) prefetch_key<kR>(ahead[n][i], row_bytes, i);
      Vec values[extent(kN)];
      if (tail > 0) {
        values[0] = load_up_to<Element>(from, tail);
      } else {
#pragma GCC unroll 8
        for (int v = 0; v < kN; ++v) {
          values[v] =
              Element::load_part(from + v / Element::kLoads * Element::kLoads * kWidth, v % Element::kLoads);
        }
      }
#pragma GCC unroll 4
      for (int row = n * kR; row < (n + 1) * kR; ++row) {
        const Vec w = set1(weights[row][i]);
#pragma GCC unroll 8
        for (int v = 0; v < kN; ++v) out[row][v] = fma(w, values[v], out[row][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < kN; ++v) store(acc[n] + v * kWidth, out[n][v]);
  }
}

// shrink: of all rows, or null.
template <class Element, int kR, int kH>
void multiply_values(const SpanArgs& args, const KeyBlock<typename Element::Storage>& keys, KeyRange range,
                     int h, int r, const float* shrink, const RowsAhead* ahead) {
  constexpr int kMost = kAccumulators / (kH * kR);
  constexpr int kN = kMost < 8 ? kMost : 8;
  int d = 0;
  const auto strip = [&](auto multiply, int width, int tail) {
    multiply(args, keys, range, h, r, d, tail, shrink, ahead);
    ahead = nullptr;  // once per key
    d += width;
  };
  constexpr int kStep = Element::kLoads;
  while (d + kN * kWidth <= args.head_dim_v) strip(multiply_strip<Element, kR, kH, kN>, kN * kWidth, 0);
  while (d + kStep * kWidth <= args.head_dim_v)
    strip(multiply_strip<Element, kR, kH, kStep>, kStep * kWidth, 0);
  while (d < args.head_dim_v) strip(multiply_strip<Element, kR, kH, 1>, kWidth, args.head_dim_v - d);
}

// Beyond these, the values of two heads don't stay in the first-level cache for all columns.
constexpr int kMaxRowsSideBySide = 4;

// Calls step<4, H>(n, r), step<2, H> or step<1, H> for the rows from r on of H heads from the n-th on: 4 x 4
// operands feed 16 products, the fewest loads for each.
template <class Step>
void for_row_groups(int num_rows, int num_heads, Step step) {
  const auto groups = [&]<int kH>(int n) {
    int r = 0;
    for (; r + 4 <= num_rows; r += 4) step.template operator()<4, kH>(n, r);
    for (; r + 2 <= num_rows; r += 2) step.template operator()<2, kH>(n, r);
    for (; r < num_rows; ++r) step.template operator()<1, kH>(n, r);
  };
  if (num_heads == kStreams && num_rows <= kMaxRowsSideBySide) return groups.template operator()<kStreams>(0);
  for (int n = 0; n < num_heads; ++n) groups.template operator()<1>(n);
}

template <class Element>
void span(const SpanArgs& args) {
  using Storage = typename Element::Storage;
  const int num_rows = args.num_heads * args.num_rows;
  clear_state(args.state, num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin == range.end) return;
  BlockReader<Storage> reader(args, range, keys_per_turn(args));
  while (reader.next()) {
    const KeyBlock<Storage>& keys = reader.keys();
    reader.for_keys([&](KeyRange turn, int h, int num_heads, const RowsAhead* ahead) {
      for_row_groups(args.num_rows, num_heads, [&]<int kR, int kH>(int n, int r) {
        multiply_keys<Element, kR, kH>(args, keys, turn, h + n, r, r == 0 ? ahead + n : nullptr);
      });
    });
    float shrink[kMaxRows];
    for (int row = 0; row < num_rows; row += kSoftmaxRows) {
      const int rows = num_rows - row < kSoftmaxRows ? num_rows - row : kSoftmaxRows;
      softmax_block(args, row, rows, reader.block(), args.scratch + row * kKeyBlock, shrink + row);
    }
    reader.for_values([&](KeyRange turn, int h, int num_heads, const RowsAhead* ahead) {
      const float* first_shrink = turn.begin == keys.begin ? shrink : nullptr;
      for_row_groups(args.num_rows, num_heads, [&]<int kR, int kH>(int n, int r) {
        multiply_values<Element, kR, kH>(args, keys, turn, h + n, r, first_shrink,
                                         r == 0 ? ahead + n : nullptr);
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
