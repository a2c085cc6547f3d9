// The `streaming` span kernel by AMX: keys and values are operands as they lie in the cache, nothing is
// packed but a few rows of queries and weights. Internal linkage, like simd.h.
//
//   logits  C[16 keys, 16]  += K[16 keys, 32 dims] Q[32 dims, 16]        a column for each part of 4 queries
//   output  C[16, 16 pairs] += P[16, 16 keys] V[16 keys, 16 pairs of dims]
//
// An instruction multiplies pairs of a row of the second factor with pairs of the first. A row of V holds
// pairs of dims where the instruction means pairs of keys: a weight next to a zero picks one of the two, so
// that a part of a query's weights has two rows, one for the even dims and one for the odd.
#pragma once

#include "kernels/cpu/attention/operands_amx.h"
#include "kernels/cpu/attention/softmax.h"

namespace bifocal::kernels::cpu {
namespace {
namespace amx {
namespace streaming {

constexpr int kQueryParts = 3;
constexpr int kWeightParts = 2;  // 16 bits of a weight: off by at most 2^-18 of it
constexpr int kMaxGroupRows = 4;
static_assert(kQueryParts * kMaxGroupRows <= kTile && 2 * kWeightParts * kMaxGroupRows == kTile);

constexpr TileLimits kLimits = {32, 32, 16, 128};
constexpr int kMaxGroups = kLimits.max_rows / kMaxGroupRows + kLimits.max_heads;

// Groups of query rows of one KV head share tiles: part p of row r is column p * rows + r of a tile of
// queries, and row p * rows + r of a tile of weights, where the rows for the odd dims follow those for the
// even ones. Few rows make small tiles.
struct Group {
  explicit Group(int num_rows) : rows(num_rows < kMaxGroupRows ? num_rows : kMaxGroupRows) {}
  int rows;
  int query_floats() const { return 4 * rows; }  // of a tile's row, three of four used
  int query_tile() const { return kTile * query_floats(); }
  int weight_rows() const { return 2 * kWeightParts * rows; }
  int weight_tile() const { return kTile * weight_rows(); }
};

// Scratch, in floats.
struct Scratch {
  Scratch(int head_dim_k, int head_dim_v)
      : value_columns(whole_steps(head_dim_v) * kTile),
        sums(logits + kMaxGroupRows * kKeyBlock),
        keys(sums + kTile * (value_columns > kKeyBlock ? value_columns : kKeyBlock)),
        values(keys + kKeyBlock * whole_steps(head_dim_k) * kTile),
        weights(values + kKeyBlock * value_columns),
        total(weights + int64_t{kMaxGroups} * kKeyTiles * kTileFloats) {}
  int value_columns;   // pairs of dims
  int64_t logits = 0;  // [kMaxGroupRows, kKeyBlock]
  int64_t sums;        // [kKeyBlock, 16] or [16, value_columns]
  int64_t keys;        // those that can't be read in place
  int64_t values;
  int64_t weights;  // [groups, kKeyTiles] tiles
  int64_t total;
};

int64_t scratch_floats(int head_dim_k, int head_dim_v) {
  return Scratch(head_dim_k, head_dim_v).total;
}
int64_t query_floats(int head_dim_k) {
  return int64_t{kMaxGroups} * whole_steps(head_dim_k) * kTileFloats;
}

// packed: for each group [steps][16 pairs of dims][query_floats].
void pack_queries(const QueryTile& tile, float* packed) {
  const Group group(tile.num_rows);
  for_groups<kMaxGroupRows>(tile.num_heads, tile.num_rows, [&](int, int h, int r, int rows) {
    for (int first = 0; first < tile.head_dim; first += kDepth, packed += group.query_tile()) {
      Vec columns[kTile];
      for (Vec& column : columns) column = zero();
      for (int i = 0; i < rows; ++i) {
        Vec part[kQueryParts];
        query_pairs(tile.rows[h * tile.num_rows + r + i], first, tile.head_dim, tile.scale, part);
        for (int p = 0; p < kQueryParts; ++p) columns[p * group.rows + i] = part[p];
      }
      transpose(columns);
      const int floats = group.query_floats();
      for (int i = 0; i < kTile; ++i) store_first(packed + i * floats, columns[i], floats);
    }
  });
}

// logits [kRows, kKeyBlock] from the sums of 64 keys, [kKeyBlock, 16]. Here and below, the next rows of
// `share` are fetched beside the arithmetic.
template <int kRows>
void add_query_parts(const float* sums, float* logits, FetchShare& share) {
  for (int t = 0; t < kKeyTiles; ++t, sums += kTileFloats) {
    share.fetch(4);
    Vec column[kTile];
    for (int i = 0; i < kTile; ++i) column[i] = load(sums + i * kWidth);
    transpose(column);
    for (int r = 0; r < kRows; ++r) {
      const Vec low = add(column[2 * kRows + r], column[kRows + r]);
      store(logits + r * kKeyBlock + t * kTile, add(low, column[r]));
    }
  }
}
void add_query_parts(int rows, const float* sums, float* logits, FetchShare& share) {
  if (rows == 1) add_query_parts<1>(sums, logits, share);
  if (rows == 2) add_query_parts<2>(sums, logits, share);
  if (rows == 3) add_query_parts<3>(sums, logits, share);
  if (rows == 4) add_query_parts<4>(sums, logits, share);
}

// weights [num_rows, kKeyBlock] as packed [kKeyTiles] tiles.
void pack_weights(const Group& group, const float* weights, int num_rows, float* packed, FetchShare& share) {
  for (int r = 0; r < num_rows; ++r) {
    share.fetch(4);
    for (int t = 0; t < kKeyTiles; ++t) {
      Vec part[kWeightParts];
      split(load(weights + r * kKeyBlock + t * kTile), part);
      for (int p = 0; p < kWeightParts; ++p) {
        float* even = packed + t * group.weight_tile() + (p * group.rows + r) * kWidth;
        store(even, pair_of(part[p], zero()));
        store(even + kWeightParts * group.rows * kWidth, part[p]);
      }
    }
  }
}

// sums [weight_rows, kTiles * 16] of one group for the kTiles * 16 pairs of dims that begin `offset` bytes
// into each row, over the block's tiles [begin, end) of keys. before_tile() is called for each product.
template <int kTiles, class BeforeTile>
void multiply_values(const Group& group, const float* weights, const RowTile (&values)[kKeyTiles],
                     int64_t offset, KeyRange tiles, float* sums, int64_t columns, BeforeTile before_tile) {
  clear_sums();
  complete_stores();
  for (int t = tiles.begin; t < tiles.end; ++t) {
    const auto* v = static_cast<const char*>(values[t].rows) + offset;
    const int64_t stride = values[t].stride;
    _tile_loadd(4, weights + t * group.weight_tile(), 64);
    before_tile();
    _tile_loadd(5, v, stride);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kTiles > 1) {
      before_tile();
      _tile_loadd(6, v + 64, stride);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (kTiles > 2) {
      before_tile();
      _tile_loadd(7, v + 128, stride);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (kTiles > 3) {
      before_tile();
      _tile_loadd(5, v + 192, stride);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  const int64_t stride = columns * static_cast<int64_t>(sizeof(float));
  _tile_stored(0, sums, stride);
  if constexpr (kTiles > 1) _tile_stored(1, sums + kTile, stride);
  if constexpr (kTiles > 2) _tile_stored(2, sums + 2 * kTile, stride);
  if constexpr (kTiles > 3) _tile_stored(3, sums + 3 * kTile, stride);
}

// acc = acc * shrink + the parts' sums.
void add_weight_parts(const Group& group, const float* sums, int64_t columns, int num_rows, int head_dim,
                      const float* shrink, float* acc, FetchShare& share) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const int acc_columns = padded_head_dim(head_dim);
  const int64_t part = group.rows * columns;
  for (int r = 0; r < num_rows; ++r, acc += acc_columns, sums += columns) {
    share.fetch(8);
    const Vec factor = set1(shrink[r]);
    for (int d = 0; d < acc_columns; d += kDepth) {
      const float* x = sums + d / 2;
      const Vec even = add(load(x + part), load(x));
      const Vec odd = add(load(x + 3 * part), load(x + 2 * part));
      store(acc + d, fma(load(acc + d), factor, _mm512_permutex2var_ps(even, first, odd)));
      if (d + kTile == acc_columns) continue;
      float* next = acc + d + kTile;
      store(next, fma(load(next), factor, _mm512_permutex2var_ps(even, second, odd)));
    }
  }
}

void span(const SpanArgs& args) {
  const Scratch scratch(args.head_dim_k, args.head_dim_v);
  const Group group(args.num_rows);
  const int num_steps = whole_steps(args.head_dim_k);
  const int columns = scratch.value_columns;
  const int v_columns = padded_head_dim(args.head_dim_v);
  float* const logits = args.scratch + scratch.logits;
  float* const sums = args.scratch + scratch.sums;
  float* const weights = args.scratch + scratch.weights;
  clear_state(args.state, args.num_heads * args.num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin == range.end) return;
  FetchAhead ahead(args, range.begin, args.fetch_end);
  for (int block = range.begin / kKeyBlock * kKeyBlock; block < range.end; block += kKeyBlock) {
    KeyBlock<uint16_t> keys;
    locate_block(args.kv, block, range, &keys);
    // The block's rows for a head as operands.
    const auto place = [&](const uint16_t* const* rows, int64_t head, int head_dim, int64_t stride,
                           int64_t copies, RowTile(&tiles)[kKeyTiles]) {
      auto* memory = reinterpret_cast<uint16_t*>(args.scratch + copies);
      for (int t = 0; t < kKeyTiles; ++t) {
        tiles[t] = row_tile(rows, t * kTile, {keys.begin, keys.end}, head, head_dim, stride, memory);
      }
    };

    float shrink[kLimits.max_rows];
    RowTile tiles[kKeyTiles];
    FetchShare share(ahead);
    configure_tiles(kTile, 4 * kQueryParts * group.rows, kTile, 4 * kQueryParts * group.rows);
    for_groups<kMaxGroupRows>(args.num_heads, args.num_rows, [&](int number, int h, int r, int rows) {
      if (r == 0) {
        place(keys.k, h * args.kv.k_head_stride, args.head_dim_k, args.kv.k_token_stride, scratch.keys,
              tiles);
        share = FetchShare(ahead);
      }
      clear_sums();
      multiply_keys(tiles, args.q + int64_t{number} * num_steps * group.query_tile(), group.query_floats(),
                    num_steps, [&] { share.fetch(1); });
      store_sums(sums);
      add_query_parts(group.rows, sums, logits, share);
      const int row = h * args.num_rows + r;
      share.fetch(8);
      softmax_block(args, row, rows, block, logits, shrink + row);
      share.fetch(8);
      pack_weights(group, logits, rows, weights + number * kKeyTiles * group.weight_tile(), share);
      share.fetch_rest();
    });

    const KeyRange key_tiles{keys.begin / kTile, (keys.end + kTile - 1) / kTile};
    configure_tiles(group.weight_rows(), 64, group.weight_rows(), 64);
    for_groups<kMaxGroupRows>(args.num_heads, args.num_rows, [&](int number, int h, int r, int rows) {
      if (r == 0) {
        place(keys.v, h * args.kv.v_head_stride, args.head_dim_v, args.kv.v_token_stride, scratch.values,
              tiles);
        share = FetchShare(ahead);
      }
      const float* p = weights + number * kKeyTiles * group.weight_tile();
      const auto multiply = [&]<int kTiles>(int column) {
        multiply_values<kTiles>(group, p, tiles, 4 * column, key_tiles, sums + column, columns,
                                [&] { share.fetch(2); });
      };
      int column = 0;
      for (; column + 4 * kTile <= columns; column += 4 * kTile) multiply.template operator()<4>(column);
      const int left = (columns - column) / kTile;
      if (left == 3) multiply.template operator()<3>(column);
      if (left == 2) multiply.template operator()<2>(column);
      if (left == 1) multiply.template operator()<1>(column);
      const int row = h * args.num_rows + r;
      add_weight_parts(group, sums, columns, rows, args.head_dim_v, shrink + row,
                       args.state.acc + int64_t{row} * v_columns, share);
      share.fetch_rest();
    });
  }
  _tile_release();
}

constexpr SpanKernel kKernel{kLimits, scratch_floats, query_floats, pack_queries, span};

}  // namespace streaming
}  // namespace amx
}  // namespace
}  // namespace bifocal::kernels::cpu
