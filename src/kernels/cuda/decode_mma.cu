// Decode attention for Hopper: HBM is the limit, so everything serves one aim, bytes in flight at all times.
//
// One persistent CTA per SM works through its part of the plan. Two teams of four warps take tiles of
// kTileTokens keys in turn, each warp a quarter of the tile's keys. A producer warp keeps a ring for each
// team full with tensor copies, keys and values in turn, across units: it never waits for a unit to end. The
// products are transposed, S' = K Q' and O' = V' P', so that keys and head dims fill the 16 rows of the mma
// and the few query rows its 8 columns. Each warp keeps its own softmax state (m, l, O) over a span; at the
// span's end the eight states are folded in warp order through shared memory, and spans in index order
// (decode_plan.h).
#include <cuda_runtime.h>

#include <cmath>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/softmax_state.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kTeams = 2;
constexpr int kWarpsPerTeam = kTileTokens / 16;
constexpr int kConsumerWarps = kTeams * kWarpsPerTeam;
constexpr int kConsumerThreads = kConsumerWarps * 32;
constexpr int kThreads = kConsumerThreads + 32;
constexpr int kRunSlots = 4;
constexpr uint32_t kConsumerBarrier = 1;

struct DecodeParams {
  const DecodePart* parts;
  const DecodeSequence* seqs;
  int32_t* counters;
  float* partial_o;         // [slots][kRows][D], unnormalised
  SoftmaxState* partial_s;  // [slots][kRows]
  const int32_t* page_table;
  int64_t page_table_stride;
  const uint16_t* q;
  int64_t q_stride;
  uint16_t* out;
  int64_t out_stride;
  const float* sinks;
  float* lse;
  int tiles_per_page;
  int num_heads;
  int num_kv_heads;
  int group;  // H / HK
  int q_len;
  int window;
  float softcap;
  float scale;
};

// One part's spans of one unit: what the producer tells the consumers.
struct Run {
  DecodeSequence seq;
  int32_t head;
  int32_t span_begin;
  int32_t span_end;
  int32_t slot;  // -1: the unit is this part's alone
  int32_t unit_cut;
  int32_t counter;
  int32_t padding[2];
};

template <int kD, int kN>
struct Shape {
  static constexpr int kRows = 8 * kN;
  static constexpr int kTileElements = kTileTokens * kD;
  static constexpr int kTileBytes = kTileElements * 2;
  static constexpr int kSlots =
      kD == 64 ? 10 : (kD == 128 ? (kN == 1 ? 5 : 4) : 2);  // of K or V, for each team
  static constexpr int kFoldPitch =
      kD + 4;  // floats; keeps the fragments' scattered stores free of conflicts
  static constexpr int kVectors = kRows * kD / 4;
  static constexpr int kVectorsPerThread = (kVectors + kConsumerThreads - 1) / kConsumerThreads;
};

template <int kD, int kN>
struct Shared {
  using S = Shape<kD, kN>;
  alignas(1024) uint16_t tiles[kTeams][S::kSlots][S::kTileElements];
  alignas(128) uint16_t q[kRunSlots][S::kRows * kD];
  alignas(16) float fold_o[kConsumerWarps][S::kRows][S::kFoldPitch];
  SoftmaxState fold_s[kConsumerWarps][S::kRows];
  Run runs[kRunSlots];
  uint64_t full[kTeams][S::kSlots];
  uint64_t empty[kTeams][S::kSlots];
  uint64_t run_full[kRunSlots];
  uint64_t run_empty[kRunSlots];
  int32_t last;
};

// Position in a ring of `kSlots` slots.
template <int kSlots>
struct RingCursor {
  int slot = 0;
  uint32_t phase = 0;
  __device__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

struct TileRange {
  int begin;
  int end;
};

__device__ __forceinline__ TileRange tiles_of_span(const DecodeSequence& seq, int span) {
  const int per_span = tiles_per_span(seq);
  return {max(span * per_span, seq.kv_begin / kTileTokens),
          min((span + 1) * per_span, (seq.kv_end + kTileTokens - 1) / kTileTokens)};
}

// --- producer
// --------------------------------------------------------------------------------------------------

// One matrix of a tile into the next slot of a team's ring; the whole warp waits, one lane issues.
template <int kD, int kN>
__device__ __forceinline__ void produce_matrix(Shared<kD, kN>& shared, int team,
                                               RingCursor<Shape<kD, kN>::kSlots>& cursor,
                                               const CUtensorMap& map, int token, int head, int page) {
  mbarrier_wait(&shared.empty[team][cursor.slot], cursor.phase ^ 1);
  if (threadIdx.x % 32 == 0) {
    uint64_t* full = &shared.full[team][cursor.slot];
    mbarrier_expect(full, Shape<kD, kN>::kTileBytes);
    load_tensor_5d(shared.tiles[team][cursor.slot], &map, full, 0, token, 0, head, page, kEvictFirst);
  }
  cursor.advance();
}

template <int kD, int kN>
__device__ __forceinline__ void produce(Shared<kD, kN>& shared, const CUtensorMap& k_map,
                                        const CUtensorMap& v_map, const DecodeParams& params,
                                        const DecodePart& part) {
  using S = Shape<kD, kN>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  RingCursor<S::kSlots> rings[kTeams];
  RingCursor<kRunSlots> run_slot;
  int index = part.seq;
  int head = part.head;
  for (int unit = 0; unit < part.num_units; ++unit) {
    const DecodeSequence seq = params.seqs[index];
    Run run;
    run.seq = seq;
    run.head = head;
    run.span_begin = unit == 0 ? part.span : seq.span_begin;
    run.span_end = unit == part.num_units - 1 ? part.span_end : seq.span_end;
    const bool last = unit == part.num_units - 1 && unit > 0;
    run.slot = unit == 0 ? part.first_slot : (last ? part.last_slot : -1);
    run.unit_cut = unit == 0 ? part.first_cut : part.last_cut;
    run.counter = unit == 0 ? part.first_counter : part.last_counter;

    const int tile_begin = tiles_of_span(seq, run.span_begin).begin;
    const int tile_end = tiles_of_span(seq, run.span_end - 1).end;
    const int32_t* pages = params.page_table + index * params.page_table_stride;
    int page_base = tile_begin / params.tiles_per_page;
    const int page_end = (tile_end + params.tiles_per_page - 1) / params.tiles_per_page;
    int next_page = page_base + lane < page_end ? pages[page_base + lane] : 0;

    mbarrier_wait(&shared.run_empty[run_slot.slot], run_slot.phase ^ 1);
    if (lane == 0) {
      shared.runs[run_slot.slot] = run;
      const uint32_t row_bytes = static_cast<uint32_t>(params.group * kD * 2);
      uint64_t* full = &shared.run_full[run_slot.slot];
      mbarrier_expect(full, row_bytes * static_cast<uint32_t>(params.q_len));
      for (int token = 0; token < params.q_len; ++token) {
        load_bulk(&shared.q[run_slot.slot][token * params.group * kD],
                  params.q + (seq.q_row + token) * params.q_stride + head * params.group * kD, row_bytes,
                  full);
      }
    }
    run_slot.advance();

    int page_ids = 0;
    for (int tile = tile_begin; tile < tile_end; ++tile) {
      const int page = tile / params.tiles_per_page;
      if (tile == tile_begin || page == page_base + 32) {
        if (tile != tile_begin) page_base += 32;
        page_ids = next_page;
        next_page = page_base + 32 + lane < page_end ? pages[page_base + 32 + lane] : 0;
      }
      const int page_id = __shfl_sync(~0U, page_ids, page - page_base);
      const int token = (tile - page * params.tiles_per_page) * kTileTokens;
#pragma unroll
      for (int team = 0; team < kTeams; ++team) {
        if (tile % kTeams != team) continue;
        produce_matrix<kD, kN>(shared, team, rings[team], k_map, token, head, page_id);
        produce_matrix<kD, kN>(shared, team, rings[team], v_map, token, head, page_id);
      }
    }
    if (++head == params.num_kv_heads) {
      head = 0;
      ++index;
    }
  }
}

// --- consumers
// -------------------------------------------------------------------------------------------------

// A warp's own state over a span. Lane 4g+t holds O'[16i + g (+8)][8n + 2t (+1)] and the statistics of rows
// 8n + 2t and 8n + 2t + 1.
template <int kD, int kN>
struct WarpState {
  float o[kD / 16][kN][4];
  float m[kN][2];
  float l[kN][2];  // this lane's keys only
  __device__ void clear() {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      m[n][0] = m[n][1] = -INFINITY;
      l[n][0] = l[n][1] = 0.0F;
#pragma unroll
      for (int i = 0; i < kD / 16; ++i) o[i][n][0] = o[i][n][1] = o[i][n][2] = o[i][n][3] = 0.0F;
    }
  }
};

// Keys that each of the lane's rows sees: [begin, end).
template <int kN>
struct RowLimits {
  int begin[kN][2];
  int end[kN][2];
  int all_begin;  // keys in [all_begin, all_end) are seen by every row
  int all_end;
};

template <int kN>
__device__ RowLimits<kN> row_limits(const DecodeParams& params, const DecodeSequence& seq) {
  RowLimits<kN> limits;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int token = min((8 * n + 2 * t + j) / params.group, params.q_len - 1);
      limits.end[n][j] = seq.kv_end - params.q_len + 1 + token;
      limits.begin[n][j] = params.window > 0 ? limits.end[n][j] - params.window : 0;
    }
  }
  limits.all_end = seq.kv_end - params.q_len + 1;
  limits.all_begin = params.window > 0 ? seq.kv_end - params.window : 0;
  return limits;
}

// S' = K Q' for 16 keys: swizzled K rows at `tile`, first key `row` of the tile.
template <int kD, int kN>
__device__ __forceinline__ void multiply_keys(const uint16_t* tile, int row,
                                              const uint32_t (&q)[kD / 16][kN][2], float (&s)[kN][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int token = row + lane % 16;
  const uint32_t base = smem_address(tile) + static_cast<uint32_t>(token * 128);
  float odd[kN][4];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) s[n][j] = odd[n][j] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) {
    const int chunk = (i % 4) * 2 + lane / 16;
    uint32_t a[4];
    ldmatrix_x4(a, base + static_cast<uint32_t>((i / 4) * kTileTokens * 128 + ((chunk ^ (token % 8)) * 16)));
#pragma unroll
    for (int n = 0; n < kN; ++n) mma_16x8x16(i % 2 == 0 ? s[n] : odd[n], a, q[i][n][0], q[i][n][1]);
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) s[n][j] += odd[n][j];
  }
}

// O' += V' P' for 16 keys. keep[i] zeroes values of keys that don't exist: whatever lies there, NaN too,
// times a probability of zero must give zero.
template <int kD, int kN, bool kMasked>
__device__ __forceinline__ void multiply_values(const uint16_t* tile, int row, const uint32_t (&p)[kN][2],
                                                const uint32_t (&keep)[2], float (&o)[kD / 16][kN][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int token = row + lane % 8 + (lane / 16) * 8;
  const uint32_t base = smem_address(tile) + static_cast<uint32_t>(token * 128);
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) {
    const int chunk = (i % 4) * 2 + (lane / 8) % 2;
    uint32_t a[4];
    ldmatrix_x4_trans(
        a, base + static_cast<uint32_t>((i / 4) * kTileTokens * 128 + ((chunk ^ (token % 8)) * 16)));
    if (kMasked) {
      a[0] &= keep[0];
      a[1] &= keep[0];
      a[2] &= keep[1];
      a[3] &= keep[1];
    }
#pragma unroll
    for (int n = 0; n < kN; ++n) mma_16x8x16(o[i][n], a, p[n][0], p[n][1]);
  }
}

// Logits to base-2 units, masked, into probabilities; the state's statistics and O follow.
template <int kD, int kN>
__device__ __forceinline__ void update_state(const DecodeParams& params, const RowLimits<kN>& limits,
                                             int first_key, bool masked, float (&s)[kN][4],
                                             WarpState<kD, kN>& state, uint32_t (&p)[kN][2]) {
  const int g = (static_cast<int>(threadIdx.x) % 32) / 4;
  if (params.softcap > 0.0F) {
    const float inner = params.scale / params.softcap;
    const float outer = params.softcap * kLog2E;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s[n][j] = outer * tanhf(s[n][j] * inner);
    }
  } else {
    const float factor = params.scale * kLog2E;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s[n][j] *= factor;
    }
  }
  if (masked) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = first_key + g + (j / 2) * 8;
        if (key < limits.begin[n][j % 2] || key >= limits.end[n][j % 2]) s[n][j] = -INFINITY;
      }
    }
  }
  bool raised = false;
  float m[kN][2];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float top = fmaxf(s[n][j], s[n][j + 2]);
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 4));
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 8));
      top = fmaxf(top, __shfl_xor_sync(~0U, top, 16));
      m[n][j] = fmaxf(state.m[n][j], top);
      raised = raised || m[n][j] > state.m[n][j];
    }
  }
  if (__any_sync(~0U, raised)) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float keep = exp2_approx(state.m[n][j] - finite_or_zero(m[n][j]));
        state.m[n][j] = m[n][j];
        state.l[n][j] *= keep;
#pragma unroll
        for (int i = 0; i < kD / 16; ++i) {
          state.o[i][n][j] *= keep;
          state.o[i][n][j + 2] *= keep;
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float top = finite_or_zero(m[n][j]);
      s[n][j] = exp2_approx(s[n][j] - top);
      s[n][j + 2] = exp2_approx(s[n][j + 2] - top);
      state.l[n][j] += s[n][j] + s[n][j + 2];
    }
    p[n][0] = movmatrix_trans(pack_bf16(s[n][0], s[n][1]));
    p[n][1] = movmatrix_trans(pack_bf16(s[n][2], s[n][3]));
  }
}

// Which of the lane's keys in V' fragments exist: [begin, end) relative to the warp's first key.
__device__ __forceinline__ void value_masks(int begin, int end, uint32_t (&keep)[2]) {
  const int key = (static_cast<int>(threadIdx.x) % 4) * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int low = key + 8 * i;
    keep[i] = (low >= begin && low < end ? 0x0000FFFFU : 0U) |
              (low + 1 >= begin && low + 1 < end ? 0xFFFF0000U : 0U);
  }
}

// The part of a unit's result that one thread owns while spans are folded: vectors of four head dims of a
// row.
template <int kD, int kN>
struct OwnedVectors {
  using S = Shape<kD, kN>;
  float4 o[S::kVectorsPerThread];
  SoftmaxState s[S::kVectorsPerThread];

  __device__ static int vector(int i) { return static_cast<int>(threadIdx.x) + i * kConsumerThreads; }
  __device__ static bool owns(int i) {
    return S::kVectors % kConsumerThreads == 0 || vector(i) < S::kVectors;
  }
  __device__ static int row(int i) { return vector(i) / (kD / 4); }
  __device__ static int dim(int i) { return vector(i) % (kD / 4) * 4; }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < S::kVectorsPerThread; ++i) {
      o[i] = {0.0F, 0.0F, 0.0F, 0.0F};
      s[i] = {-INFINITY, 0.0F};
    }
  }
  __device__ void fold(int i, const SoftmaxState& state, const float4& value) {
    fold_state(s[i], o[i], state, value);
  }
};

// Folds the warps' states of a span in warp order.
template <int kD, int kN>
__device__ void fold_warps(Shared<kD, kN>& shared, WarpState<kD, kN>& state, OwnedVectors<kD, kN>& span) {
  using S = Shape<kD, kN>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float l = state.l[n][j];
      l += __shfl_xor_sync(~0U, l, 4);
      l += __shfl_xor_sync(~0U, l, 8);
      l += __shfl_xor_sync(~0U, l, 16);
      const int row = 8 * n + 2 * t + j;
      if (g == 0) shared.fold_s[warp][row] = {state.m[n][j], l};
#pragma unroll
      for (int i = 0; i < kD / 16; ++i) {
        shared.fold_o[warp][row][16 * i + g] = state.o[i][n][j];
        shared.fold_o[warp][row][16 * i + g + 8] = state.o[i][n][j + 2];
      }
    }
  }
  named_barrier_sync(kConsumerBarrier, kConsumerThreads);
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!span.owns(i)) continue;
    const int row = span.row(i);
    float m = -INFINITY;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) m = fmaxf(m, shared.fold_s[w][row].m);
    float l = 0.0F;
    float4 o = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      const SoftmaxState from = shared.fold_s[w][row];
      const float weight = exp2_approx(from.m - finite_or_zero(m));
      l = __fmaf_rn(from.l, weight, l);
      accumulate(o, *reinterpret_cast<const float4*>(&shared.fold_o[w][row][span.dim(i)]), weight);
    }
    span.s[i] = {m, l};
    span.o[i] = o;
  }
  named_barrier_sync(kConsumerBarrier, kConsumerThreads);
}

template <int kD, int kN>
__device__ void store_partial(const DecodeParams& params, int slot, const OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!owned.owns(i)) continue;
    const int64_t row = int64_t{slot} * S::kRows + owned.row(i);
    __stcg(reinterpret_cast<float4*>(&params.partial_o[row * kD + owned.dim(i)]), owned.o[i]);
    if (owned.dim(i) == 0) __stcg(reinterpret_cast<float2*>(&params.partial_s[row]), owned.s[i].as_float2());
  }
}

// Normalises, adds the sink, writes the rows of a finished unit.
template <int kD, int kN>
__device__ void store_unit(const DecodeParams& params, const Run& run, const OwnedVectors<kD, kN>& owned) {
  using S = Shape<kD, kN>;
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    const int row = owned.row(i);
    if (!owned.owns(i) || row >= params.q_len * params.group) continue;
    const int64_t token = run.seq.q_row + row / params.group;
    const int head = run.head * params.group + row % params.group;
    const FinalWeights final =
        finish_state(owned.s[i], params.sinks != nullptr ? params.sinks[head] : -INFINITY);
    const uint32_t low = pack_bf16(owned.o[i].x * final.weight, owned.o[i].y * final.weight);
    const uint32_t high = pack_bf16(owned.o[i].z * final.weight, owned.o[i].w * final.weight);
    *reinterpret_cast<uint2*>(&params.out[token * params.out_stride + head * kD + owned.dim(i)]) = {low,
                                                                                                    high};
    if (owned.dim(i) == 0 && params.lse != nullptr) params.lse[token * params.num_heads + head] = final.lse;
  }
}

// Counts this run's spans; who completes the unit folds its slots in order and writes it.
template <int kD, int kN>
__device__ void finish_cut_unit(Shared<kD, kN>& shared, const DecodeParams& params, const Run& run,
                                OwnedVectors<kD, kN>& total) {
  using S = Shape<kD, kN>;
  named_barrier_sync(kConsumerBarrier, kConsumerThreads);
  if (threadIdx.x == 0) {
    const int spans = run.span_end - run.span_begin;
    const int before = add_acq_rel(&params.counters[run.counter], spans);
    const bool last = before + spans == run.seq.span_end - run.seq.span_begin;
    if (last) params.counters[run.counter] = 0;  // for the next layer's run of this plan
    shared.last = last ? 1 : 0;
  }
  named_barrier_sync(kConsumerBarrier, kConsumerThreads);
  if (shared.last == 0) return;
  const int num_slots = slots_of_cut_unit(run.seq, run.unit_cut);
  total.clear();
#pragma unroll
  for (int i = 0; i < S::kVectorsPerThread; ++i) {
    if (!total.owns(i)) continue;
    const int64_t row = int64_t{run.slot} * S::kRows + total.row(i);
    const float4* o = reinterpret_cast<const float4*>(&params.partial_o[row * kD + total.dim(i)]);
    const float2* s = reinterpret_cast<const float2*>(&params.partial_s[row]);
#pragma unroll 8
    for (int slot = 0; slot < num_slots; ++slot) {
      const float2 state = __ldcg(s + slot * S::kRows);
      total.fold(i, {state.x, state.y}, __ldcg(o + slot * S::kRows * kD / 4));
    }
  }
  store_unit<kD, kN>(params, run, total);
}

template <int kD, int kN>
__device__ __forceinline__ void consume(Shared<kD, kN>& shared, const DecodeParams& params,
                                        const DecodePart& part) {
  using S = Shape<kD, kN>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int team = warp / kWarpsPerTeam;
  const int row = (warp % kWarpsPerTeam) * 16;
  RingCursor<S::kSlots> ring;
  RingCursor<kRunSlots> run_slot;
  for (int unit = 0; unit < part.num_units; ++unit) {
    mbarrier_wait(&shared.run_full[run_slot.slot], run_slot.phase);
    const Run run = shared.runs[run_slot.slot];
    uint32_t q[kD / 16][kN][2];
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < kD / 16; i += 2) {
        uint32_t b[4];
        ldmatrix_x4(
            b, smem_address(&shared.q[run_slot.slot][(8 * n + lane % 8) * kD + i * 16 + (lane / 8) * 8]));
        q[i][n][0] = b[0];
        q[i][n][1] = b[1];
        q[i + 1][n][0] = b[2];
        q[i + 1][n][1] = b[3];
      }
    }
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&shared.run_empty[run_slot.slot]);
    run_slot.advance();

    const RowLimits<kN> limits = row_limits<kN>(params, run.seq);
    const bool prefix = run.span_begin == run.seq.span_begin;
    OwnedVectors<kD, kN> total;
    total.clear();
    for (int span = run.span_begin; span < run.span_end; ++span) {
      WarpState<kD, kN> state;
      state.clear();
      const TileRange tiles = tiles_of_span(run.seq, span);
      for (int tile = tiles.begin; tile < tiles.end; ++tile) {
        if (tile % kTeams != team) continue;
        const int first_key = tile * kTileTokens + row;
        const bool masked = first_key < limits.all_begin || first_key + 16 > limits.all_end;
        float s[kN][4];
        mbarrier_wait(&shared.full[team][ring.slot], ring.phase);
        multiply_keys<kD, kN>(shared.tiles[team][ring.slot], row, q, s);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&shared.empty[team][ring.slot]);
        ring.advance();
        uint32_t p[kN][2];
        update_state<kD, kN>(params, limits, first_key, masked, s, state, p);
        mbarrier_wait(&shared.full[team][ring.slot], ring.phase);
        uint32_t keep[2] = {~0U, ~0U};
        if (masked) {
          value_masks(run.seq.kv_begin - first_key, run.seq.kv_end - first_key, keep);
          multiply_values<kD, kN, true>(shared.tiles[team][ring.slot], row, p, keep, state.o);
        } else {
          multiply_values<kD, kN, false>(shared.tiles[team][ring.slot], row, p, keep, state.o);
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&shared.empty[team][ring.slot]);
        ring.advance();
      }
      OwnedVectors<kD, kN> closed;
      fold_warps<kD, kN>(shared, state, closed);
      if (run.slot >= 0 && !prefix) {
        store_partial<kD, kN>(params, run.slot + 1 + span - run.unit_cut, closed);
      } else {
#pragma unroll
        for (int i = 0; i < S::kVectorsPerThread; ++i) total.fold(i, closed.s[i], closed.o[i]);
      }
    }
    if (run.slot < 0) {
      store_unit<kD, kN>(params, run, total);
    } else {
      if (prefix) store_partial<kD, kN>(params, run.slot, total);
      finish_cut_unit<kD, kN>(shared, params, run, total);
    }
  }
}

template <int kD, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    decode_mma_kernel(const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap v_map,
                      const __grid_constant__ DecodeParams params) {
  using S = Shape<kD, kN>;
  extern __shared__ __align__(1024) uint8_t storage[];
  auto& shared = *reinterpret_cast<Shared<kD, kN>*>(storage);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == kConsumerThreads) {
    prefetch_tensor_map(&k_map);
    prefetch_tensor_map(&v_map);
    for (int i = 0; i < kTeams * S::kSlots; ++i) {
      mbarrier_init(&shared.full[0][i], 1);
      mbarrier_init(&shared.empty[0][i], kWarpsPerTeam);
    }
    for (int i = 0; i < kRunSlots; ++i) {
      mbarrier_init(&shared.run_full[i], 1);
      mbarrier_init(&shared.run_empty[i], kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  // Columns of the mma beyond the group's rows: nobody reads their results, but they should not be NaN.
  for (int i = static_cast<int>(threadIdx.x); i < kRunSlots * S::kRows * kD / 2; i += kThreads) {
    reinterpret_cast<uint32_t*>(shared.q)[i] = 0;
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  grid_dependency_wait();
  launch_dependents();
  const DecodePart part = params.parts[blockIdx.x];
  if (warp == kConsumerWarps) {
    produce<kD, kN>(shared, k_map, v_map, params, part);
  } else {
    consume<kD, kN>(shared, params, part);
  }
}

template <int kD, int kN>
Status launch(const DecodePlan& plan, const DecodeLayer& layer, const DecodeParams& params,
              const LaunchOptions& options) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kD, kN>));
  static_assert(kBytes <= 227 * 1024, "an SM's shared memory");
  const auto kernel = decode_mma_kernel<kD, kN>;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                         cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
                                    "shared memory of decode_mma"));
  return launch_kernel(kernel, plan.buffers->num_parts, kThreads, kBytes, options, "decode_mma", layer.kv->k,
                       layer.kv->v, params);
}

}  // namespace

Status run_decode(const DecodePlan& plan, const DecodeLayer& layer, const LaunchOptions& options) {
  const DecodeDesc& desc = plan.desc;
  if (plan.batch.num_seqs == 0) return {};
  DecodeParams params{};
  params.parts = plan.buffers->parts.as<DecodePart>();
  params.seqs = plan.buffers->seqs.as<DecodeSequence>();
  params.counters = plan.buffers->counters.as<int32_t>();
  params.partial_o = plan.buffers->partials.as<float>();
  params.partial_s = reinterpret_cast<SoftmaxState*>(
      params.partial_o + plan.buffers->max_slots * padded_rows(desc) * desc.head_dim);
  params.page_table = plan.batch.page_table;
  params.page_table_stride = plan.batch.page_table_stride;
  params.q = layer.q;
  params.q_stride = layer.q_stride;
  params.out = layer.out;
  params.out_stride = layer.out_stride;
  params.sinks = layer.sinks;
  params.lse = layer.lse;
  params.tiles_per_page = desc.page_size / kTileTokens;
  params.num_heads = desc.num_heads;
  params.num_kv_heads = desc.num_kv_heads;
  params.group = desc.num_heads / desc.num_kv_heads;
  params.q_len = desc.q_len;
  params.window = desc.window;
  params.softcap = desc.softcap;
  params.scale = desc.scale;
  const bool wide = padded_rows(desc) > 8;
  switch (desc.head_dim) {
    case 64:
      return wide ? launch<64, 2>(plan, layer, params, options) : launch<64, 1>(plan, layer, params, options);
    case 128:
      if (!wide) return launch<128, 1>(plan, layer, params, options);
      break;
    default:
      break;
  }
  return unsupported("decode_mma: head dim " + std::to_string(desc.head_dim) +
                     " with more than 8 query rows");
}

}  // namespace bifocal::kernels::cuda
