// The `streaming` span kernel: keys and values are read once, in place, for all query heads of the KV head;
// dot products run along the head dimension, so nothing is packed. For few rows, where reading the cache is
// the cost.
#pragma once

#include <cstring>

#include "kernels/cpu/attention/softmax_inl.h"

namespace bifocal::kernels::cpu {

template <class S>
struct Streaming {
  static constexpr int kMaxRows = 32;
  static constexpr int kWidth = S::kWidth;
  using V = typename S::V;

  // Scratch: logits [kMaxRows, block].
  static size_t scratch_floats(int, int) { return static_cast<size_t>(kMaxRows) * kAttentionKeyBlock; }
  static size_t query_floats(int head_dim_k) {
    return static_cast<size_t>(kMaxRows) * static_cast<size_t>(padded_head_dim(head_dim_k));
  }

  // packed: [rows, padded Dk], the padding zero.
  static void pack_queries(const QueryTile& tile, float* packed) {
    const int columns = padded_head_dim(tile.head_dim);
    for (int r = 0; r < tile.num_rows; ++r) {
      const int row = tile.row_begin + r;
      const float* q =
          tile.q + (row / tile.group) * tile.stride + static_cast<int64_t>(row % tile.group) * tile.head_dim;
      float* out = packed + static_cast<int64_t>(r) * columns;
      for (int d = 0; d < tile.head_dim; ++d) out[d] = q[d] * tile.scale;
      for (int d = tile.head_dim; d < columns; ++d) out[d] = 0;
    }
  }

  // The last `count` < kWidth elements of a row, zeros behind them.
  template <DType kDType>
  static V load_tail(const char* p, int count) {
    alignas(64) char padded[kWidth * kElementBytes<kDType>] = {};
    std::memcpy(padded, p, static_cast<size_t>(count) * kElementBytes<kDType>);
    return S::template load_kv<kDType>(padded);
  }

  static void prefetch_row(const char* p, int bytes) {
    for (int offset = 0; offset < bytes; offset += 64) S::prefetch(p + offset);
  }

  // Logits of kR rows: kWidth dot products at a time, kR rows by kWidth / kR keys.
  template <DType kDType, int kR>
  static void logits_rows(const float* q, const KeyBlock& keys, int head_dim, bool first_pass,
                          int value_bytes, float* logits) {
    constexpr int kKeys = kWidth / kR;
    const int columns = padded_head_dim(head_dim);
    for (int i = keys.begin / kKeys * kKeys; i < keys.end; i += kKeys) {
      V acc[extent(kWidth)];
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) acc[j] = S::zero();
      int d = 0;
      for (; d + kWidth <= head_dim; d += kWidth) {
        V k[extent(kKeys)];
#pragma GCC unroll 16
        for (int j = 0; j < kKeys; ++j)
          k[j] = S::template load_kv<kDType>(keys.k[i + j] + d * kElementBytes<kDType>);
#pragma GCC unroll 16
        for (int r = 0; r < kR; ++r) {
          const V x = S::load(q + r * columns + d);
#pragma GCC unroll 16
          for (int j = 0; j < kKeys; ++j) acc[r * kKeys + j] = S::fma(x, k[j], acc[r * kKeys + j]);
        }
      }
      if (d < head_dim) {
        for (int j = 0; j < kKeys; ++j) {
          const V k = load_tail<kDType>(keys.k[i + j] + d * kElementBytes<kDType>, head_dim - d);
#pragma GCC unroll 16
          for (int r = 0; r < kR; ++r)
            acc[r * kKeys + j] = S::fma(S::load(q + r * columns + d), k, acc[r * kKeys + j]);
        }
      }
      // The values of these keys are needed soon: fetch them while the products are computed.
      if (first_pass) {
        for (int j = 0; j < kKeys; ++j) prefetch_row(keys.v[i + j], value_bytes);
      }
      float sums[extent(kWidth)];
      S::store(sums, S::reduce_each(acc));
      for (int r = 0; r < kR; ++r)
        std::memcpy(logits + r * kAttentionKeyBlock + i, sums + r * kKeys, sizeof(float) * kKeys);
    }
  }

  // acc[r, columns d .. d + kN vectors) = acc * shrink + sum over keys of weight * value, for kR rows.
  template <DType kDType, int kR, int kN, bool kTail>
  static void accumulate_strip(const float* weights, const KeyBlock& keys, int d, int tail,
                               const float* shrink, float* acc, int columns, const char* const* next,
                               int next_bytes) {
    V sum[extent(kR)][extent(kN)];
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) {
        sum[r][n] = S::mul(S::load(acc + r * columns + d + n * kWidth), S::set1(shrink[r]));
      }
    }
    for (int i = keys.begin; i < keys.end; ++i) {
      const char* p = keys.v[i] + d * kElementBytes<kDType>;
      V v[extent(kN)];
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) {
        v[n] = kTail ? load_tail<kDType>(p, tail)
                     : S::template load_kv<kDType>(p + n * kWidth * kElementBytes<kDType>);
      }
      if (next != nullptr) prefetch_row(next[i], next_bytes);
#pragma GCC unroll 8
      for (int r = 0; r < kR; ++r) {
        const V w = S::set1(weights[r * kAttentionKeyBlock + i]);
#pragma GCC unroll 8
        for (int n = 0; n < kN; ++n) sum[r][n] = S::fma(w, v[n], sum[r][n]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) S::store(acc + r * columns + d + n * kWidth, sum[r][n]);
    }
  }

  template <DType kDType, int kR>
  static void accumulate_rows(const float* weights, const KeyBlock& keys, int head_dim, const float* shrink,
                              float* acc, const char* const* next, int next_bytes) {
    constexpr int kN = kR == 1 ? 8 : S::kAccumulators / kR;
    const int columns = padded_head_dim(head_dim);
    int d = 0;
    for (; d + kN * kWidth <= head_dim; d += kN * kWidth) {
      accumulate_strip<kDType, kR, kN, false>(weights, keys, d, 0, shrink, acc, columns, next, next_bytes);
      next = nullptr;
    }
    for (; d + kWidth <= head_dim; d += kWidth) {
      accumulate_strip<kDType, kR, 1, false>(weights, keys, d, 0, shrink, acc, columns, next, next_bytes);
      next = nullptr;
    }
    if (d < head_dim) {
      accumulate_strip<kDType, kR, 1, true>(weights, keys, d, head_dim - d, shrink, acc, columns, next,
                                            next_bytes);
    }
  }

  template <DType kDType>
  static void span_of(const SpanArgs& args) {
    const int q_columns = padded_head_dim(args.head_dim_k);
    const int v_columns = padded_head_dim(args.head_dim_v);
    const int key_bytes = args.head_dim_k * kElementBytes<kDType>;
    const int value_bytes = args.head_dim_v * kElementBytes<kDType>;
    clear_state<S>(args.state, args.num_rows, args.head_dim_v);

    const KeyRange range = tile_keys(args);
    if (range.begin >= range.end) return;
    KeyBlock blocks[2];
    int block = range.begin / kAttentionKeyBlock * kAttentionKeyBlock;
    locate_block(args.kv, block, range, &blocks[0]);
    for (int current = 0; block < range.end; block += kAttentionKeyBlock, current ^= 1) {
      const KeyBlock& keys = blocks[current];
      for (int r = 0; r < args.num_rows;) {
        const float* q = args.q + r * q_columns;
        float* logits = args.scratch + r * kAttentionKeyBlock;
        const int left = args.num_rows - r;
        const bool first_pass = r == 0;
        if (left >= 8) {
          logits_rows<kDType, 8>(q, keys, args.head_dim_k, first_pass, value_bytes, logits);
          r += 8;
        } else if (left >= 4) {
          logits_rows<kDType, 4>(q, keys, args.head_dim_k, first_pass, value_bytes, logits);
          r += 4;
        } else if (left >= 2) {
          logits_rows<kDType, 2>(q, keys, args.head_dim_k, first_pass, value_bytes, logits);
          r += 2;
        } else {
          logits_rows<kDType, 1>(q, keys, args.head_dim_k, first_pass, value_bytes, logits);
          r += 1;
        }
      }
      float shrink[extent(kMaxRows)];
      for (int r = 0; r < args.num_rows; ++r) {
        shrink[r] = softmax_block<S>(args.scratch + r * kAttentionKeyBlock, visible_in_block(args, r, block),
                                     args.softcap, args.state.max + r, args.state.sum + r);
      }
      const char* const* next = nullptr;
      if (block + kAttentionKeyBlock < range.end) {
        locate_block(args.kv, block + kAttentionKeyBlock, range, &blocks[current ^ 1]);
        next = blocks[current ^ 1].k;
      }
      for (int r = 0; r < args.num_rows;) {
        const float* weights = args.scratch + r * kAttentionKeyBlock;
        float* acc = args.state.acc + r * v_columns;
        const int left = args.num_rows - r;
        if (left >= 4) {
          accumulate_rows<kDType, 4>(weights, keys, args.head_dim_v, shrink + r, acc, next, key_bytes);
          r += 4;
        } else if (left >= 2) {
          accumulate_rows<kDType, 2>(weights, keys, args.head_dim_v, shrink + r, acc, next, key_bytes);
          r += 2;
        } else {
          accumulate_rows<kDType, 1>(weights, keys, args.head_dim_v, shrink + r, acc, next, key_bytes);
          r += 1;
        }
        next = nullptr;
      }
    }
  }

  static void span(const SpanArgs& args) {
    switch (args.kv.dtype) {
      case DType::bf16:
        return span_of<DType::bf16>(args);
      case DType::f16:
        return span_of<DType::f16>(args);
      case DType::f8_e4m3:
        return span_of<DType::f8_e4m3>(args);
      default:
        return span_of<DType::f32>(args);
    }
  }

  static constexpr SpanKernel kKernel{kMaxRows, scratch_floats, query_floats, pack_queries, span};
};

}  // namespace bifocal::kernels::cpu
