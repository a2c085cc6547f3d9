// The `tiled` span kernel: each block of keys and values is converted and packed once for all rows of the
// tile, then two products of register tiles follow: logits = Q K^T and acc += P V. For many rows.
#pragma once

#include "kernels/cpu/attention/softmax_inl.h"

namespace bifocal::kernels::cpu {

template <class S>
struct Tiled {
  static constexpr int kRows = S::kTileRows;
  static constexpr int kPanelKeys = S::kTileVectors * S::kWidth;
  static constexpr int kMaxRows = 96;  // a multiple of every kTileRows: packing costs as much as about 8 rows
  static_assert(kMaxRows % kRows == 0 && kAttentionKeyBlock % kPanelKeys == 0);

  // Scratch: logits [kMaxRows, block], packed keys [block / panel][Dk][panel], values [block, padded Dv].
  static size_t scratch_floats(int head_dim_k, int head_dim_v) {
    return static_cast<size_t>(kAttentionKeyBlock) *
           static_cast<size_t>(kMaxRows + padded_head_dim(head_dim_k) + padded_head_dim(head_dim_v));
  }
  static size_t query_floats(int head_dim_k) {
    return static_cast<size_t>(kMaxRows) * static_cast<size_t>(head_dim_k);
  }

  // packed: [groups of kRows rows][Dk][kRows]; rows that do not exist stay unwritten and unread.
  static void pack_queries(const QueryTile& tile, float* packed) {
    for (int r = 0; r < tile.num_rows; ++r) {
      const int row = tile.row_begin + r;
      const float* q =
          tile.q + (row / tile.group) * tile.stride + static_cast<int64_t>(row % tile.group) * tile.head_dim;
      float* panel = packed + static_cast<int64_t>(r / kRows) * kRows * tile.head_dim + r % kRows;
      for (int d = 0; d < tile.head_dim; ++d) panel[static_cast<int64_t>(d) * kRows] = q[d] * tile.scale;
    }
  }

  // C[kM, kN vectors] = (C * shrink, or 0) + A[kM, depth] B[depth, kN vectors], element by element one chain
  // of fused multiply-adds over the depth. A(r, i) is a[r * kARow + i * kAStep].
  template <int kM, int kN, int kARow, int kAStep>
  static void multiply(const float* a, const float* b, int64_t b_stride, int depth, const float* shrink,
                       float* c, int64_t c_stride) {
    typename S::V acc[extent(kM)][extent(kN)];
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < kN; ++n) {
        acc[r][n] = shrink == nullptr ? S::zero()
                                      : S::mul(S::load(c + r * c_stride + n * S::kWidth), S::set1(shrink[r]));
      }
    }
    for (int i = 0; i < depth; ++i) {
      typename S::V column[extent(kN)];
#pragma GCC unroll 2
      for (int n = 0; n < kN; ++n) column[n] = S::load(b + n * S::kWidth);
#pragma GCC unroll 12
      for (int r = 0; r < kM; ++r) {
        const auto x = S::set1(a[r * kARow]);
#pragma GCC unroll 2
        for (int n = 0; n < kN; ++n) acc[r][n] = S::fma(x, column[n], acc[r][n]);
      }
      a += kAStep;
      b += b_stride;
    }
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < kN; ++n) S::store(c + r * c_stride + n * S::kWidth, acc[r][n]);
    }
  }

  template <int kM>
  static void logits_rows(const float* q, const float* keys, int head_dim, int num_keys, float* logits) {
    for (int panel = 0; panel * kPanelKeys < num_keys; ++panel) {
      multiply<kM, S::kTileVectors, 1, kRows>(q, keys + static_cast<int64_t>(panel) * kPanelKeys * head_dim,
                                              kPanelKeys, head_dim, nullptr, logits + panel * kPanelKeys,
                                              kAttentionKeyBlock);
    }
  }

  template <int kM>
  static void accumulate_rows(const float* weights, const float* values, int num_keys, int columns,
                              const float* shrink, float* acc) {
    int d = 0;
    for (; d + kPanelKeys <= columns; d += kPanelKeys) {
      multiply<kM, S::kTileVectors, kAttentionKeyBlock, 1>(weights, values + d, columns, num_keys, shrink,
                                                           acc + d, columns);
    }
    for (; d < columns; d += S::kWidth) {
      multiply<kM, 1, kAttentionKeyBlock, 1>(weights, values + d, columns, num_keys, shrink, acc + d,
                                             columns);
    }
  }

  // Calls the instantiation for `rows` rows, 1 <= rows <= kM.
  template <int kM, class... Args>
  static void logits_for(int rows, Args... args) {
    if constexpr (kM > 1) {
      if (rows < kM) return logits_for<kM - 1>(rows, args...);
    }
    logits_rows<kM>(args...);
  }
  template <int kM, class... Args>
  static void accumulate_for(int rows, Args... args) {
    if constexpr (kM > 1) {
      if (rows < kM) return accumulate_for<kM - 1>(rows, args...);
    }
    accumulate_rows<kM>(args...);
  }

  // keys: [panels][Dk][kPanelKeys], whole panels.
  template <DType kDType>
  static void pack_keys(const char* const* rows, int num_keys, int head_dim, float* keys) {
    const int padded = (num_keys + kPanelKeys - 1) / kPanelKeys * kPanelKeys;
    for (int first = 0; first < padded; first += S::kWidth) {
      const char* const* row = rows + first;
      float* panel =
          keys + static_cast<int64_t>(first / kPanelKeys) * kPanelKeys * head_dim + first % kPanelKeys;
      int d = 0;
      for (; d + S::kWidth <= head_dim; d += S::kWidth) {
        typename S::V block[extent(S::kWidth)];
        for (int i = 0; i < S::kWidth; ++i) {
          block[i] = S::template load_kv<kDType>(row[i] + d * kElementBytes<kDType>);
        }
        S::transpose(block);
        for (int i = 0; i < S::kWidth; ++i)
          S::store(panel + static_cast<int64_t>(d + i) * kPanelKeys, block[i]);
      }
      for (; d < head_dim; ++d) {
        for (int i = 0; i < S::kWidth; ++i) {
          panel[static_cast<int64_t>(d) * kPanelKeys + i] = load_element<kDType>(row[i], d);
        }
      }
    }
  }

  template <DType kDType>
  static void span_of(const SpanArgs& args) {
    const int columns = padded_head_dim(args.head_dim_v);
    float* logits = args.scratch;
    float* keys = logits + kMaxRows * kAttentionKeyBlock;
    float* values = keys + static_cast<int64_t>(kAttentionKeyBlock) * padded_head_dim(args.head_dim_k);
    clear_state<S>(args.state, args.num_rows, args.head_dim_v);

    const KeyRange range = tile_keys(args);
    for (int block = range.begin / kAttentionKeyBlock * kAttentionKeyBlock; block < range.end;
         block += kAttentionKeyBlock) {
      KeyBlock located;
      locate_block(args.kv, block, range, &located);
      pack_keys<kDType>(located.k, located.end, args.head_dim_k, keys);
      for (int i = located.begin; i < located.end; ++i) {
        load_row<S, kDType>(located.v[i], args.head_dim_v, values + static_cast<int64_t>(i) * columns);
      }
      for (int r = 0; r < args.num_rows; r += kRows) {
        const int rows = args.num_rows - r < kRows ? args.num_rows - r : kRows;
        // Both bounds rise with the row: the group sees from its first row's first key to its last row's
        // last.
        const int first = visible_in_block(args, r, block).begin;
        const int end = visible_in_block(args, r + rows - 1, block).end;
        if (first >= end) continue;
        float* group = logits + r * kAttentionKeyBlock;
        logits_for<kRows>(rows, args.q + static_cast<int64_t>(r) * args.head_dim_k, keys, args.head_dim_k,
                          end, group);
        float shrink[extent(kRows)];
        for (int i = 0; i < rows; ++i) {
          shrink[i] = softmax_block<S>(group + i * kAttentionKeyBlock, visible_in_block(args, r + i, block),
                                       args.softcap, args.state.max + r + i, args.state.sum + r + i);
        }
        accumulate_for<kRows>(rows, group + first, values + static_cast<int64_t>(first) * columns,
                              end - first, columns, shrink,
                              args.state.acc + static_cast<int64_t>(r) * columns);
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
