// The `tiled` and the `unified` span kernel by AMX. Rows are columns: 16 query rows of one KV head are the
// columns of every tile, so that the softmax works on whole registers of rows and nothing but the values,
// once per block for all rows, has to be transposed. Internal linkage, like simd.h.
//
//   logits  C[16 keys, 16 rows] += K[16 keys, 32 dims] Q[32 dims, 16 rows]   keys in place
//   output  C[16 dims, 16 rows] += V[16 dims, 32 keys] P[32 keys, 16 rows]
//
// Each part of Q and of P is one more pair of products that adds to the same sums, the smallest first.
#pragma once

#include "kernels/cpu/attention/operands_amx.h"
#include "kernels/cpu/attention/softmax.h"

namespace bifocal::kernels::cpu {
namespace {
namespace amx {
namespace tiled {

constexpr int kQueryParts = 3;
constexpr int kWeightParts = 2;  // 16 bits of a weight: off by at most 2^-17 of it
constexpr int kMaxGroups = 12;
constexpr int kMaxRows = kMaxGroups * kTile;
constexpr int kSteps = kKeyBlock / kDepth;  // of keys
constexpr int64_t kWeightFloats = int64_t{kWeightParts} * kSteps * kTileFloats;

constexpr TileLimits kLimits = {kMaxRows, 0, 1, kMaxRows};
// Any number of rows; few of them for several KV heads at once, in the order of addresses.
constexpr TileLimits kUnifiedLimits = {kMaxRows, kTile, kMaxGroups, kMaxRows};

constexpr int value_columns(int head_dim_v) {
  return whole_steps(head_dim_v) * kDepth;
}

// Scratch, in floats.
struct Scratch {
  Scratch(int head_dim_k, int head_dim_v)
      : sums(logits + kTile * kKeyBlock),
        keys(sums + 4 * kTileFloats),
        values(keys + kKeyBlock * whole_steps(head_dim_k) * kTile),
        weights(values + kKeyBlock * value_columns(head_dim_v) / 2),
        acc(weights + kMaxGroups * kWeightFloats),
        total(acc + int64_t{kMaxRows} * value_columns(head_dim_v)) {}
  int64_t logits = 0;  // [kKeyBlock, 16]
  int64_t sums;        // [4 tiles]
  int64_t keys;        // those that can't be read in place
  int64_t values;      // bf16 [kSteps][tiles of 16 dims][16 dims, 32 keys]
  int64_t weights;     // bf16 pairs [groups][kWeightParts][kSteps][16 pairs of keys, 16 rows]
  int64_t acc;         // [groups][value_columns, 16 rows]
  int64_t total;
};

int64_t scratch_floats(int head_dim_k, int head_dim_v) {
  return Scratch(head_dim_k, head_dim_v).total;
}
int64_t query_floats(int head_dim_k) {
  return int64_t{kMaxGroups} * kQueryParts * whole_steps(head_dim_k) * kTileFloats;
}

// packed: for each group [parts][steps][16 pairs of dims][16 rows].
void pack_queries(const QueryTile& tile, float* packed) {
  const int num_steps = whole_steps(tile.head_dim);
  for_groups<kTile>(tile.num_heads, tile.num_rows, [&](int, int h, int r, int rows) {
    for (int s = 0; s < num_steps; ++s, packed += kTileFloats) {
      Vec columns[kQueryParts][kTile];
      for (int i = 0; i < kTile; ++i) {
        Vec part[kQueryParts] = {zero(), zero(), zero()};
        if (i < rows) {
          query_pairs(tile.rows[h * tile.num_rows + r + i], s * kDepth, tile.head_dim, tile.scale, part);
        }
        for (int p = 0; p < kQueryParts; ++p) columns[p][i] = part[p];
      }
      for (int p = 0; p < kQueryParts; ++p) {
        transpose(columns[p]);
        for (int i = 0; i < kTile; ++i) {
          store(packed + int64_t{p} * num_steps * kTileFloats + i * kWidth, columns[p][i]);
        }
      }
    }
    packed += int64_t{kQueryParts - 1} * num_steps * kTileFloats;
  });
}

// Half an upward step of bf16 away from zero, then cut: as good as to nearest even here.
inline Vec cut_to_bf16(Vec v) {
  const __m512i up = _mm512_add_epi32(bits_of(v), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
}

// softmax_block() for rows that are columns: logits [kKeyBlock, 16] become packed weights.
inline void softmax_columns(const SpanArgs& args, int row, int num_rows, int block, float* logits,
                            float* weights, float* shrink) {
  const __mmask16 rows = first(num_rows);
  const __m512i begin = _mm512_maskz_loadu_epi32(rows, args.key_begin + row);
  const __m512i end = _mm512_maskz_loadu_epi32(rows, args.key_end + row);
  const bool masked =
      num_rows < kTile || args.key_begin[row + num_rows - 1] > block || args.key_end[row] < block + kKeyBlock;
  Vec largest[4];
  for (Vec& x : largest) x = set1(-kInfinity);
  for (int i = 0; i < kKeyBlock; i += 4) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Vec v = load(logits + (i + j) * kTile);
      if (args.softcap != 0) v = softcap_logits(v, args.softcap);
      if (masked) {
        const __m512i key = _mm512_set1_epi32(block + i + j);
        const __mmask16 sees = _mm512_cmple_epi32_mask(begin, key) & _mm512_cmplt_epi32_mask(key, end);
        v = _mm512_mask_mov_ps(set1(-kInfinity), sees, v);
      }
      if (masked || args.softcap != 0) store(logits + (i + j) * kTile, v);
      largest[j] = max(largest[j], v);
    }
  }
  const Vec old_max = _mm512_mask_loadu_ps(set1(-kInfinity), rows, args.state.max + row);
  const Vec new_max = max(max(max(largest[0], largest[1]), max(largest[2], largest[3])), old_max);
  // A row that has seen no key yet: -inf minus -inf must not become NaN.
  const Vec reference = max(set1(-__FLT_MAX__), new_max);
  const Vec factor = exp2_nonpositive(sub(old_max, reference));
  store_first(args.state.max + row, new_max, num_rows);
  store(shrink, factor);

  Vec total[2] = {zero(), zero()};
  for (int i = 0; i < kKeyBlock; i += 2, weights += kWidth) {
    Vec part[2][kWeightParts];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Vec weight = exp2_nonpositive(sub(load(logits + (i + j) * kTile), reference));
      total[j] = add(total[j], weight);
      part[j][0] = cut_to_bf16(weight);
      part[j][1] = cut_to_bf16(sub(weight, part[j][0]));
    }
    for (int p = 0; p < kWeightParts; ++p) {
      store(weights + p * kSteps * kTileFloats, pair_of(part[0][p], part[1][p]));
    }
  }
  const Vec old_sum = load_first(args.state.sum + row, num_rows);
  store_first(args.state.sum + row, fma(old_sum, factor, add(total[0], total[1])), num_rows);
}

// A step's 32 values of one KV head as tiles of 16 dims by 32 keys. before_pair() is called 16 times.
template <class BeforePair>
void pack_values(const uint16_t* const* rows, int64_t head, int head_dim, uint16_t* packed,
                 BeforePair before_pair) {
  auto* out = reinterpret_cast<float*>(packed);
  for (int d = 0; d < head_dim; d += kDepth, out += 2 * kTileFloats) {
    const int left = head_dim - d;
    const auto mask = left < kDepth ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
    // Interleaving works within 128 bits: dims 0-3, 8-11, 16-19, 24-27, and the others.
    Vec low[kTile];
    Vec high[kTile];
    for (int i = 0; i < kTile; ++i) {
      const auto at = [&](int key) {
        const auto* row = reinterpret_cast<const char*>(rows[key]) + head;
        return _mm512_maskz_loadu_epi16(mask, reinterpret_cast<const uint16_t*>(row) + d);
      };
      if (d == 0) before_pair();
      const __m512i a = at(2 * i);
      const __m512i b = at(2 * i + 1);
      low[i] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(a, b));
      high[i] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(a, b));
    }
    transpose(low);
    transpose(high);
    for (int i = 0; i < kTile; ++i) {
      const int dim = i / 4 * 8 + i % 4;
      store(out + dim * kWidth, low[i]);
      store(out + (dim + 4) * kWidth, high[i]);
    }
  }
}

// sums: kTiles tiles of 16 dims by 16 rows, of the values' tiles from `values` on; steps lie step_elements
// apart.
template <int kTiles>
void multiply_values(const float* weights, const uint16_t* values, int64_t step_elements, float* sums) {
  constexpr int kTileElements = 2 * kTileFloats;
  clear_sums();
  complete_stores();
  for (int p = kWeightParts - 1; p >= 0; --p) {
    for (int s = 0; s < kSteps; ++s) {
      const uint16_t* v = values + s * step_elements;
      _tile_loadd(4, weights + (p * kSteps + s) * kTileFloats, 64);
      _tile_loadd(5, v, 64);
      _tile_dpbf16ps(0, 5, 4);
      _tile_loadd(6, v + kTileElements, 64);
      _tile_dpbf16ps(1, 6, 4);
      if constexpr (kTiles == 4) {
        _tile_loadd(7, v + 2 * kTileElements, 64);
        _tile_dpbf16ps(2, 7, 4);
        _tile_loadd(5, v + 3 * kTileElements, 64);
        _tile_dpbf16ps(3, 5, 4);
      }
    }
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileFloats, 64);
  if constexpr (kTiles == 4) {
    _tile_stored(2, sums + 2 * kTileFloats, 64);
    _tile_stored(3, sums + 3 * kTileFloats, 64);
  }
}

inline void add_sums(const float* sums, int num_dims, Vec shrink, float* acc) {
  for (int d = 0; d < num_dims; ++d) {
    store(acc + d * kTile, fma(load(acc + d * kTile), shrink, load(sums + d * kTile)));
  }
}

// acc [head_dim, 16 rows] to out [num_rows, padded head_dim].
inline void store_rows(const float* acc, int num_rows, int head_dim, float* out) {
  const int columns = padded_head_dim(head_dim);
  for (int d = 0; d < columns; d += kTile) {
    Vec tile[kTile];
    for (int i = 0; i < kTile; ++i) tile[i] = load(acc + (d + i) * kTile);
    transpose(tile);
    for (int r = 0; r < num_rows; ++r) store(out + int64_t{r} * columns + d, tile[r]);
  }
}

void span(const SpanArgs& args) {
  const Scratch scratch(args.head_dim_k, args.head_dim_v);
  const int num_steps = whole_steps(args.head_dim_k);
  const int num_value_dims = value_columns(args.head_dim_v);
  const int64_t value_step = int64_t{num_value_dims} * kDepth;
  float* const logits = args.scratch + scratch.logits;
  float* const sums = args.scratch + scratch.sums;
  float* const weights = args.scratch + scratch.weights;
  float* const acc = args.scratch + scratch.acc;
  auto* const key_copies = reinterpret_cast<uint16_t*>(args.scratch + scratch.keys);
  auto* const values = reinterpret_cast<uint16_t*>(args.scratch + scratch.values);
  clear_state(args.state, args.num_heads * args.num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin == range.end) return;
  const auto all_groups = [&](auto fn) { for_groups<kTile>(args.num_heads, args.num_rows, fn); };
  const auto acc_of = [&](int group) { return acc + int64_t{group} * num_value_dims * kTile; };
  all_groups([&](int group, int, int, int) {
    for (int i = 0; i < num_value_dims; ++i) store(acc_of(group) + i * kTile, zero());
  });
  configure_tiles(kTile, 64, kTile, 64);
  FetchAhead ahead(args, range.begin, args.fetch_end);
  for (int block = range.begin / kKeyBlock * kKeyBlock; block < range.end; block += kKeyBlock) {
    KeyBlock<uint16_t> keys;
    locate_block(args.kv, block, range, &keys);
    // fn(number, head, first row, rows, whether it is the first of its head) for groups that see a key.
    const auto visible_groups = [&](auto fn) {
      int head = -1;
      all_groups([&](int group, int h, int r, int rows) {
        const KeyRange visible = visible_to_rows(args, r, rows, block);
        if (visible.begin >= visible.end) return;
        fn(group, h, r, rows, h != head);
        head = h;
      });
    };

    float shrink[kMaxRows];
    RowTile tiles[kKeyTiles];
    FetchShare share(ahead);
    visible_groups([&](int group, int h, int r, int rows, bool first) {
      for (int t = 0; t < kKeyTiles && first; ++t) {
        tiles[t] = row_tile(keys.k, t * kTile, {keys.begin, keys.end}, h * args.kv.k_head_stride,
                            args.head_dim_k, args.kv.k_token_stride, key_copies);
      }
      if (first) share = FetchShare(ahead);
      const float* q = args.q + int64_t{group} * kQueryParts * num_steps * kTileFloats;
      clear_sums();
      for (int p = kQueryParts - 1; p >= 0; --p) {
        multiply_keys(tiles, q + int64_t{p} * num_steps * kTileFloats, kTile, num_steps,
                      [&] { share.fetch(1); });
      }
      store_sums(logits);
      share.fetch_rest();
      softmax_columns(args, h * args.num_rows + r, rows, block, logits, weights + group * kWeightFloats,
                      shrink + group * kTile);
    });

    visible_groups([&](int group, int h, int, int, bool first) {
      if (first) share = FetchShare(ahead);
      for (int s = 0; s < kSteps && first; ++s) {
        pack_values(keys.v + s * kDepth, h * args.kv.v_head_stride, args.head_dim_v, values + s * value_step,
                    [&] { share.fetch(1); });
      }
      const float* p = weights + group * kWeightFloats;
      const Vec factor = load(shrink + group * kTile);
      int d = 0;
      for (; d + 4 * kTile <= num_value_dims; d += 4 * kTile) {
        share.fetch(kTile);
        multiply_values<4>(p, values + d * kDepth, value_step, sums);
        add_sums(sums, 4 * kTile, factor, acc_of(group) + d * kTile);
      }
      if (d < num_value_dims) {
        multiply_values<2>(p, values + d * kDepth, value_step, sums);
        add_sums(sums, 2 * kTile, factor, acc_of(group) + d * kTile);
      }
      share.fetch_rest();
    });
  }
  _tile_release();
  const int64_t columns = padded_head_dim(args.head_dim_v);
  all_groups([&](int group, int h, int r, int rows) {
    store_rows(acc_of(group), rows, args.head_dim_v, args.state.acc + (h * args.num_rows + r) * columns);
  });
}

constexpr SpanKernel kKernel{kLimits, scratch_floats, query_floats, pack_queries, span};
constexpr SpanKernel kUnifiedKernel{kUnifiedLimits, scratch_floats, query_floats, pack_queries, span};

}  // namespace tiled
}  // namespace amx
}  // namespace
}  // namespace bifocal::kernels::cpu
