// Decode attention for Hopper. Memory is the limit, so everything serves one aim: bytes in flight at all
// times.
//
// One persistent CTA per SM works through its KV head of a part of the plan (decode_plan.h). A producer warp
// keeps the two teams' rings full with tensor copies, keys and values in turn, across units: it never waits
// for a unit to end. The teams' warps (decode_tile.h) keep softmax states of their own and hand them over at
// the end of every span; the fold warps (decode_fold.h) do the rest beside them.
#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/decode_fold.h"
#include "kernels/cuda/decode_rotate.h"
#include "kernels/cuda/decode_shared.h"
#include "kernels/cuda/decode_tile.h"
#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

// Page ids of a unit, one per lane, the next ones already under way.
struct PageWindow {
  const int32_t* table;
  int begin;  // page of lane 0
  int end;    // first page beyond the window
  int last;   // pages of the unit end here
  int ids;
  int next;

  __device__ __forceinline__ int load(int page) const {
    const int mine = page + static_cast<int>(threadIdx.x) % 32;
    return mine < last ? table[mine] : 0;
  }
  __device__ __forceinline__ int id(int page) {
    if (page == end) {
      begin = end;
      end += 32;
      ids = next;
      next = load(end);
    }
    return __shfl_sync(~0U, ids, page - begin);
  }
};

// One matrix of a tile into the next slot of a team's ring: the whole warp waits, one lane issues.
template <int kD, int kN>
__device__ __forceinline__ void produce_matrix(Shared<kD, kN>& shared, int team,
                                               RingCursor<Shape<kD, kN>::kSlots>& ring,
                                               const CUtensorMap* map, int group, int outermost) {
  mbarrier_wait(&shared.empty[team][ring.slot], ring.phase ^ 1);
  if (threadIdx.x % 32 == 0) {
    uint64_t* full = &shared.full[team][ring.slot];
    mbarrier_expect(full, Shape<kD, kN>::kTileBytes);
    load_tensor_5d(shared.tiles[team][ring.slot], map, full, 0, 0, 0, group, outermost, kEvictFirst);
  }
  ring.advance();
}

// Tells the others about a run.
template <int kD, int kN>
__device__ __forceinline__ void produce_run(Shared<kD, kN>& shared, RingCursor<kRunSlots>& ring,
                                            const Run& run) {
  mbarrier_wait(&shared.run_empty[ring.slot], ring.phase ^ 1);
  if (threadIdx.x % 32 == 0) {
    shared.runs[ring.slot] = run;
    mbarrier_arrive(&shared.run_full[ring.slot]);
  }
  ring.advance();
}

template <int kD, int kN>
__device__ __forceinline__ void produce(Shared<kD, kN>& shared, const DecodeParams& params,
                                        const DecodePart& part, int inline_id) {
  using S = Shape<kD, kN>;
  const int head = static_cast<int>(blockIdx.x);
  const int page_tiles_log2 = params.page_tiles_log2;
  RingCursor<S::kSlots> even;
  RingCursor<S::kSlots> odd;
  RingCursor<kRunSlots> runs;
  DecodeSequence seq = part.start_seq;
  int index = sequence_in_turn(part, 0);
  for (int i = 0; i < part.num_seqs; ++i) {
    const bool first = i == 0;
    const SpanRange spans = spans_in_part(part, index, seq);
    Run run;
    run.seq = seq;
    run.span_begin = spans.begin;
    run.span_end = spans.end;
    run.slot = index == 0 ? part.first_slot : (index == part.num_seqs - 1 ? part.last_slot : -1);
    run.seq_cut = index == 0 ? part.first_cut : part.last_cut;
    produce_run<kD, kN>(shared, runs, run);

    const int tile_begin = tiles_of_span(seq, run.span_begin).begin;
    const int tile_end = tiles_of_span(seq, run.span_end - 1).end;
    PageWindow pages;
    pages.table = params.page_table + seq.table_row * params.page_table_stride;
    pages.begin = tile_begin >> page_tiles_log2;
    pages.end = pages.begin + (first ? kInlinePages : 32);
    pages.last = (tile_end + (1 << page_tiles_log2) - 1) >> page_tiles_log2;
    pages.ids = first ? inline_id : pages.load(pages.begin);
    pages.next = pages.load(pages.end);
    const auto produce_tiles = [&](int begin, int end) {
      for (int tile = begin; tile < end; ++tile) {
        const int page = tile >> page_tiles_log2;
        const int id = pages.id(page) + params.first_page;
        const int group = (tile - (page << page_tiles_log2)) * (kTileTokens / 8) +
                          head * params.origin.groups_per_head + id * params.origin.groups_per_page;
        const int outermost = params.origin.pages_outermost ? id : head;
        if (tile % kTeams == 0) {
          produce_matrix<kD, kN>(shared, 0, even, params.k_map, group, outermost);
          produce_matrix<kD, kN>(shared, 0, even, params.v_map, group, outermost);
        } else {
          produce_matrix<kD, kN>(shared, 1, odd, params.k_map, group, outermost);
          produce_matrix<kD, kN>(shared, 1, odd, params.v_map, group, outermost);
        }
      }
    };
    int tile = tile_begin;
    // What the kernel ahead can't have written; keys that it writes when it rotates are made here otherwise.
    if (first && params.early && !params.rotates) {
      tile = max(tile_begin, min(tile_end, (seq.kv_end - params.q_len) >> kTileLog2));
      produce_tiles(tile_begin, tile);
      grid_dependency_wait();
    }
    produce_tiles(tile, tile_end);
    if (i + 1 < part.num_seqs) {
      index = sequence_in_turn(part, i + 1);
      seq = params.seqs[part.seq + index];
    }
  }
}

// A warp's state into shared memory, where the fold warps find it.
template <int kD, int kN>
__device__ __forceinline__ void hand_over(const WarpState<kD, kN>& state, int warp, int lane,
                                          SpanStates<kD, kN>& span) {
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
      if (g == 0) span.s[warp][row] = {state.m[n][j], l};
#pragma unroll
      for (int i = 0; i < kD / 16; ++i) {
        span.o[warp][row][16 * i + g] = state.o[i][n][j];
        span.o[warp][row][16 * i + g + 8] = state.o[i][n][j + 2];
      }
    }
  }
}

// The query rows of a run, 16 bytes to a thread. Not by the copy engine: its queue is full of tiles.
template <int kD, int kN>
struct QueryChunk {
  const uint16_t* from;  // null: this thread has none
  __device__ static QueryChunk of(const DecodeParams& params, const Run& run) {
    static_assert(Shape<kD, kN>::kRows * kD <= kConsumerWarps * 32 * 8);
    int element = static_cast<int>(threadIdx.x) * 8;
    if (element >= params.rows * kD) return {nullptr};
    const int token_elements = params.group * kD;
    const uint16_t* row =
        params.q + run.seq.q_row * params.q_stride + static_cast<int>(blockIdx.x) * token_elements;
    for (; element >= token_elements; element -= token_elements) row += params.q_stride;
    return {row + element};
  }
  __device__ void fetch(uint16_t* to) const {
    if (from == nullptr) return;
    // Past the L1, which may hold rows of another layer.
    reinterpret_cast<uint4*>(to)[threadIdx.x] = __ldcg(reinterpret_cast<const uint4*>(from));
  }
};

template <int kD, int kN>
__device__ __forceinline__ void consume(Shared<kD, kN>& shared, const DecodeParams& params, int num_seqs) {
  using S = Shape<kD, kN>;
  constexpr bool kRotates = rotates_rows(kD, S::kRows);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int team = warp / kWarpsPerTeam;
  const int row = (warp % kWarpsPerTeam) * 16;
  RingCursor<S::kSlots> ring;
  RingCursor<kRunSlots> runs;
  RingCursor<S::kFoldSlots> spans;
  const auto release = [&](uint64_t* barrier) {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(barrier);
  };
  for (int i = 0; i < num_seqs; ++i) {
    mbarrier_wait(&shared.run_full[runs.slot], runs.phase);
    const Run run = shared.runs[runs.slot];
    mbarrier_arrive(&shared.run_empty[runs.slot]);
    runs.advance();
    // Keys that every row sees: tiles inside need no masks.
    const int all_end = run.seq.kv_end - params.q_len + 1;
    const int all_begin = params.window > 0 ? run.seq.kv_end - params.window : 0;
    TileRange tiles = tiles_of_span(run.seq, run.span_begin);
    const int newest_key = run.seq.kv_end - 1;
    const bool newest_here = kRotates && params.rotates && newest_key >= 0 &&
                             run.span_end == run.seq.span_end && newest_key / kTileTokens % kTeams == team &&
                             newest_key % kTileTokens / 16 * 16 == row;
    NewestRow<kD> newest;
    if (kRotates && params.rotates) {
      const LaneAngles<kD> angles(params.rope, run.seq.q_row);
      if (i == 0 && params.early) grid_dependency_wait();
      if (newest_here) newest.make(params, angles, run.seq.q_row);
      rotate_queries<kD>(params, angles, run.seq.q_row, shared.q[i % 2]);
    } else {
      const auto queries = QueryChunk<kD, kN>::of(params, run);
      if (i == 0 && params.early) grid_dependency_wait();
      queries.fetch(shared.q[i % 2]);
    }
    meet(kQueryBarrier, kConsumerWarps * 32);
    uint32_t q[kD / 16][kN][2];
    load_queries<kD, kN>(shared.q[i % 2], q);
    for (int span = run.span_begin; span < run.span_end; ++span) {
      WarpState<kD, kN> state;
      state.clear();
      for (int tile = tiles.begin + ((tiles.begin + team) & 1); tile < tiles.end; tile += kTeams) {
        const int first_key = tile * kTileTokens + row;
        const bool masked = first_key < all_begin || first_key + 16 > all_end;
        float s[kN][4];
        const bool patched = newest_here && tile == newest_key / kTileTokens;
        mbarrier_wait(&shared.full[team][ring.slot], ring.phase);
        if (patched) NewestRow<kD>::put(newest.k, shared.tiles[team][ring.slot], newest_key % kTileTokens);
        multiply_keys<kD, kN>(shared.tiles[team][ring.slot], row, q, s);
        release(&shared.empty[team][ring.slot]);
        ring.advance();
        scale_logits<kN>(params, s);
        if (masked) mask_keys<kN>(params, run.seq.kv_end, first_key, s);
        uint32_t p[kN][2];
        update_state<kD, kN>(s, state, p);
        uint32_t keep[2] = {~0U, ~0U};
        mbarrier_wait(&shared.full[team][ring.slot], ring.phase);
        if (patched) NewestRow<kD>::put(newest.v, shared.tiles[team][ring.slot], newest_key % kTileTokens);
        if (masked) {
          value_masks(run.seq.kv_begin - first_key, run.seq.kv_end - first_key, keep);
          multiply_values<kD, kN, true>(shared.tiles[team][ring.slot], row, p, keep, state.o);
        } else {
          multiply_values<kD, kN, false>(shared.tiles[team][ring.slot], row, p, keep, state.o);
        }
        release(&shared.empty[team][ring.slot]);
        ring.advance();
      }
      mbarrier_wait(&shared.span_empty[spans.slot], spans.phase ^ 1);
      hand_over<kD, kN>(state, warp, lane, shared.spans[spans.slot]);
      mbarrier_arrive(&shared.span_full[spans.slot]);
      spans.advance();
      tiles = tiles_of_span(run.seq, span + 1);
    }
  }
}

// By one thread: the fence at the end is slow, and 32 lanes would pay for it one after the other.
template <int kD, int kN>
__device__ __forceinline__ void init_barriers(Shared<kD, kN>& shared) {
  using S = Shape<kD, kN>;
  for (int i = 0; i < kTeams * S::kSlots; ++i) {
    mbarrier_init(&shared.full[0][i], 1);
    mbarrier_init(&shared.empty[0][i], kWarpsPerTeam);
  }
  for (int i = 0; i < kRunSlots; ++i) {
    mbarrier_init(&shared.run_full[i], 1);
    mbarrier_init(&shared.run_empty[i], S::kMergeThreads);
  }
  for (int i = 0; i < S::kFoldSlots; ++i) {
    mbarrier_init(&shared.span_full[i], kConsumerWarps * 32);
    mbarrier_init(&shared.span_empty[i], S::kFoldThreads);
  }
  mbarrier_init_fence();
}

// What a kernel may read before grid_dependency_wait: decode.h, LaunchOptions::early.
template <int kD, int kN>
__global__ void __launch_bounds__(Shape<kD, kN>::kThreads, 1)
    decode_mma_kernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(1024) uint8_t storage[];
  auto& shared = *reinterpret_cast<Shared<kD, kN>*>(storage);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    prefetch_tensor_map(params.k_map);
    prefetch_tensor_map(params.v_map);
    init_barriers<kD, kN>(shared);
  }
  if (!params.early) grid_dependency_wait();
  const DecodePart part = params.parts[blockIdx.y];
  if (part.num_seqs == 0) return;  // the SM is free for the next kernel
  const int inline_id = lane < kInlinePages ? params.parts[blockIdx.y].pages[lane] : 0;
  __syncthreads();
  if (warp == Shape<kD, kN>::kProducerWarp) {
    produce<kD, kN>(shared, params, part, inline_id);
    return;
  }
  if (warp < kConsumerWarps) {
    consume<kD, kN>(shared, params, part.num_seqs);
  } else {
    launch_dependents();
    if (params.early) grid_dependency_wait();
    fold_units<kD, kN>(shared, params, part.num_seqs);
  }
  const int num_cut = (part.first_slot >= 0 && part.first_cut != kContinued ? 1 : 0) +
                      (part.last_slot >= 0 && part.last_cut != kContinued ? 1 : 0);
  if (num_cut == 0) return;
  meet(kMergeBarrier, Shape<kD, kN>::kMergeThreads);
  for (int i = 0; i < num_cut; ++i) merge_share<kD, kN>(shared, params, shared.cut_runs[i]);
}

template <int kD, int kN>
Status launch(const DecodePlan& plan, const DecodeParams& params, const LaunchOptions& options) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kD, kN>));
  static_assert(kBytes <= 227 * 1024, "an SM's shared memory");
  const auto kernel = decode_mma_kernel<kD, kN>;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                         cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
                                    "shared memory of decode_mma"));
  const dim3 grid(static_cast<unsigned>(plan.desc.num_kv_heads),
                  static_cast<unsigned>(plan.buffers->num_parts));
  return launch_kernel(kernel, grid, Shape<kD, kN>::kThreads, kBytes, options, "decode_mma", params);
}

}  // namespace

Status run_decode(const DecodePlan& plan, const DecodeLayer& layer, const LaunchOptions& options) {
  const DecodeDesc& desc = plan.desc;
  if (plan.batch.num_seqs == 0) return {};
  DecodeParams params{};
  params.parts = parts_of_round(*plan.buffers, plan.batch.round);
  params.seqs = seqs_of_round(*plan.buffers, plan.batch.round);
  params.partial_o = plan.buffers->partials.as<float4>();
  params.partial_s = reinterpret_cast<float2*>(
      params.partial_o + plan.buffers->max_slots * desc.num_kv_heads * padded_rows(desc) * desc.head_dim / 4);
  params.page_table = plan.batch.page_table;
  params.page_table_stride = plan.batch.page_table_stride;
  params.q = layer.q;
  params.q_stride = layer.q_stride;
  params.out = layer.out;
  params.out_stride = layer.out_stride;
  params.sinks = layer.sinks;
  params.lse = layer.lse;
  params.origin = layer.kv->origin;
  params.k_map = layer.kv->k();
  params.v_map = layer.kv->v();
  params.first_page = layer.first_page;
  params.early = options.early && options.programmatic;
  params.rotates = layer.rotation != nullptr;
  if (params.rotates) {
    if (!decode_rotates(desc, *layer.rotation)) {
      return unsupported("decode on the GPU: this rotation is a kernel's of its own");
    }
    params.rope = *layer.rotation;
  }
  params.page_tiles_log2 = page_tiles_log2(desc);
  params.num_heads = desc.num_heads;
  params.num_kv_heads = desc.num_kv_heads;
  params.group = desc.num_heads / desc.num_kv_heads;
  params.q_len = desc.q_len;
  params.rows = desc.q_len * params.group;
  params.window = desc.window;
  params.softcap = desc.softcap;
  params.scale = desc.scale;
  const bool wide = padded_rows(desc) > 8;
  switch (desc.head_dim) {
    case 64:
      return wide ? launch<64, 2>(plan, params, options) : launch<64, 1>(plan, params, options);
    case 128:
      return wide ? launch<128, 2>(plan, params, options) : launch<128, 1>(plan, params, options);
    case 256:
      return launch<256, 1>(plan, params, options);
    default:
      return internal_error("decode_mma: no kernel for head dim " + std::to_string(desc.head_dim));
  }
}

}  // namespace bifocal::kernels::cuda
