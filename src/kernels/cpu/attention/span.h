// What the attention kernels take and give: one tile of query rows and one span of keys at a time.
//
// A tile is a set of query rows that attend to the same keys, for one KV head or for several that follow one
// another: rows of one sequence, or of several whose first pages are the same. The online softmax (Milakov &
// Gimelshein 2018; Dao et al. 2022, algorithm 1) works in base 2 and keeps, per row, the largest logit m, the
// sum l of 2^(s - m) and the weighted sum of values, so that the states of two disjoint key ranges can be
// folded. Blocks of keys lie at absolute multiples of kKeyBlock and every row is computed from its own query
// alone: a row's bits depend neither on the other rows of its tile nor on where a chunk or a page begins.
//
// Keys that no row of a tile may see are never read, so unused slots of a page may hold anything.
//
// Plain data only: this header is included by files that are compiled for one instruction set (see simd.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace bifocal::kernels::cpu {

constexpr int kKeyBlock = 64;  // keys

// The KV dtypes, as indices of kernel tables.
enum KvElement { kKvF32, kKvF16, kKvBf16, kKvE4m3, kNumKvElements };
constexpr int kKvElementBytes[kNumKvElements] = {4, 2, 2, 1};

// One sequence's keys and values from some KV head on. Key t of head h is token t % page_size of page
// pages[t / page_size]; strides are in bytes.
struct KvView {
  const char* k = nullptr;
  const char* v = nullptr;
  KvElement element = kKvF32;
  int page_size = 0;
  int64_t k_page_stride = 0, k_head_stride = 0, k_token_stride = 0;
  int64_t v_page_stride = 0, v_head_stride = 0, v_token_stride = 0;
  const int32_t* pages = nullptr;
};

// What a row knows after some of its keys. R rows; acc has padded_head_dim(Dv) columns.
struct AttentionState {
  float* max = nullptr;  // [R] largest logit times log2(e); -inf: no key yet
  float* sum = nullptr;  // [R]
  float* acc = nullptr;  // [R, padded Dv]
};

// Rows are padded so that kernels store whole registers.
constexpr int padded_head_dim(int head_dim) {
  return (head_dim + 15) / 16 * 16;
}

// Floats that a state of `rows` rows takes when its arrays lie one after another.
constexpr int64_t attention_state_floats(int rows, int head_dim_v) {
  return int64_t{(rows + 15) / 16 * 16} * (padded_head_dim(head_dim_v) + 2);
}
inline AttentionState make_attention_state(float* memory, int rows, int head_dim_v) {
  const int64_t r = (rows + 15) / 16 * 16;
  float* max = memory + r * padded_head_dim(head_dim_v);
  return {max, max + r, memory};
}

// Query rows of a tile before they are packed.
struct QueryTile {
  const float* const* rows = nullptr;  // [N * R] row r of KV head h is rows[h * R + r], Dk floats
  int num_heads = 1;                   // N, KV heads
  int num_rows = 0;                    // R, of each KV head
  int head_dim = 0;                    // Dk
  float scale = 1.0F;                  // folded into the packed queries
};

struct SpanArgs {
  KvView kv;
  int head_dim_k = 0;
  int head_dim_v = 0;
  int num_heads = 1;         // N
  int num_rows = 0;          // R, of each KV head; row r of head h is row h * R + r of the arrays below
  const float* q = nullptr;  // as the same kernel's pack_queries left them
  const int32_t* key_begin =
      nullptr;  // [N * R] the row sees keys [key_begin, key_end): neither falls from one row
  const int32_t* key_end = nullptr;  // [N * R] of a head to the next, and all heads see the same
  int span_begin = 0;                // keys of this call; a multiple of kKeyBlock
  int span_end = 0;
  int fetch_end = 0;     // the caller will ask for keys up to here next: worth fetching ahead
  float softcap = 0;     // times log2(e): logits are softcap * tanh(q.k); 0: logits are q.k
  AttentionState state;  // of N * R rows, overwritten
  float* scratch = nullptr;
};

// How large a kernel's tiles may be.
struct TileLimits {
  int max_rows_per_head = 0;    // where a tile has one KV head
  int max_rows_of_several = 0;  // of each KV head, where it has several; 0: it never has
  int max_heads = 1;            // KV heads
  int max_rows = 0;             // of all KV heads together
};

// One way to compute a span, for one KV dtype; they differ in what they keep in registers.
struct SpanKernel {
  TileLimits limits;
  int64_t (*scratch_floats)(int head_dim_k, int head_dim_v) = nullptr;
  int64_t (*query_floats)(int head_dim_k) = nullptr;  // packed queries of max_rows rows
  void (*pack_queries)(const QueryTile& tile, float* packed) = nullptr;
  void (*span)(const SpanArgs& args) = nullptr;
};
struct SpanKernels {
  SpanKernel of[kNumKvElements];
};

// Where the rows of one KV head go when all their keys have been seen.
struct FinishArgs {
  AttentionState state;
  int num_rows = 0;
  int row_begin = 0;
  int group = 1;
  int head_dim_v = 0;
  const float* sinks = nullptr;  // [G] logits that only enter the denominator, or null
  float* out = nullptr;          // element (token, head, d) at out[token*out_stride + head*Dv + d]
  int64_t out_stride = 0;
  float* lse = nullptr;  // (token, head) at lse[token*lse_stride + head], natural, sinks included; or null
  int64_t lse_stride = 0;
};

struct AttentionKernels {
  SpanKernels tiled;      // many rows: packs each block of keys once and multiplies register tiles
  SpanKernels streaming;  // few rows: reads keys and values once, in place
  // `streaming` for classes with one query head for each KV head. AMX tiles would be all but empty.
  SpanKernels streaming_single;
  SpanKernels unified;  // any number of rows, the bits of `tiled`
  // state becomes the state of both key ranges. A part without keys (max -inf) has weight zero.
  void (*fold)(const AttentionState& state, const AttentionState& part, int num_rows,
               int head_dim_v) = nullptr;
  // Normalises and writes the rows. A row without keys gives zeros and lse -inf.
  void (*finish)(const FinishArgs& args) = nullptr;
};

extern const AttentionKernels kAttentionScalar;
extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;
// For bf16, in place of those of kAttentionAvx512.
extern const SpanKernel kTiledAmx;
extern const SpanKernel kStreamingAmx;
extern const SpanKernel kUnifiedAmx;

}  // namespace bifocal::kernels::cpu
