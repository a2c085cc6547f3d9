// What the warps of the decode kernel share: parameters, the layout of shared memory, the rings.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"
#include "kernels/cuda/softmax_state.h"

namespace bifocal::kernels::cuda {

// Eight warps compute, in two teams that take tiles in turn; a warp has 16 keys of its team's tile. The
// others fold and produce.
constexpr int kTeams = 2;
constexpr int kWarpsPerTeam = kTileTokens / 16;
constexpr int kConsumerWarps = kTeams * kWarpsPerTeam;
constexpr int kRunSlots = 4;

// Named barriers: the consumers', and that of all who merge.
constexpr uint32_t kQueryBarrier = 1;
constexpr uint32_t kMergeBarrier = 2;

// Before these, lanes do different things: some have query rows to fetch, or slots to gather, and some don't.
__device__ __forceinline__ void meet(uint32_t barrier, int threads) {
  __syncwarp();
  named_barrier_sync(barrier, static_cast<uint32_t>(threads));
}

struct DecodeParams {
  const DecodePart* parts;
  const DecodeSequence* seqs;
  float4* partial_o;  // [slots][HK][kVectors], unnormalised
  float2* partial_s;  // [slots][HK][kVectors / kPacketVectors], (m, l)
  const CUtensorMap* k_map;
  const CUtensorMap* v_map;
  const int32_t* page_table;
  int64_t page_table_stride;
  const uint16_t* q;
  int64_t q_stride;
  uint16_t* out;
  int64_t out_stride;
  const float* sinks;
  float* lse;
  TileOrigin origin;
  int page_tiles_log2;
  int first_page;
  int num_heads;
  int num_kv_heads;
  int group;  // H / HK
  int q_len;
  int rows;  // of a unit: q_len * group
  int window;
  float softcap;
  float scale;
  RopeKv rope;  // where `rotates`
  bool rotates;
  bool early;
};

// A part's spans of one sequence: what the producer tells the others, before anything of it is there.
struct Run {
  DecodeSequence seq;
  int32_t span_begin;
  int32_t span_end;
  int32_t slot;     // -1: the sequence is this part's alone
  int32_t seq_cut;  // or kContinued
};

template <int kD, int kN>
struct Shape {
  static constexpr int kRows = 8 * kN;  // query rows of a unit, padded
  // Twelve warps may use 168 registers each, up to sixteen 128.
  static constexpr int kFoldWarps = kD * kN == 256 ? 3 : 4;
  static constexpr int kFoldThreads = kFoldWarps * 32;
  static constexpr int kProducerWarp = kConsumerWarps + kFoldWarps;
  static constexpr int kThreads = (kProducerWarp + 1) * 32;
  static constexpr int kMergeThreads = kProducerWarp * 32;  // all but the producer's
  static constexpr int kTileElements = kTileTokens * kD;
  static constexpr int kTileBytes = kTileElements * 2;
  // Tiles of K or V in a team's ring, and states of a span that wait to be folded.
  static constexpr int kSlots = 512 / kD;
  static constexpr int kFoldSlots = kD * kN > 128 ? 1 : 2;
  static constexpr int kFoldPitch = kD + 4;  // floats: the fragments' scattered stores meet no conflicts
  static constexpr int kVectors = kRows * kD / 4;
  static constexpr int kVectorsPerThread = (kVectors + kFoldThreads - 1) / kFoldThreads;
};

// A run whose sequence is cut, and this CTA's share of that sequence's output: vectors [begin, end).
struct CutRun {
  Run run;
  int begin;
  int end;
  int num_slots;
  int staging_log2;  // of the vectors that are folded at once
};

// The eight warps' states of a span.
template <int kD, int kN>
struct SpanStates {
  using S = Shape<kD, kN>;
  alignas(16) float o[kConsumerWarps][S::kRows][S::kFoldPitch];
  SoftmaxState s[kConsumerWarps][S::kRows];
};

template <int kD, int kN>
struct Shared {
  using S = Shape<kD, kN>;
  alignas(1024) uint16_t tiles[kTeams][S::kSlots][S::kTileElements];
  alignas(128) uint16_t q[2][S::kRows * kD];  // of this run and the next
  SpanStates<kD, kN> spans[S::kFoldSlots];
  Run runs[kRunSlots];
  CutRun cut_runs[2];
  uint64_t full[kTeams][S::kSlots];
  uint64_t empty[kTeams][S::kSlots];
  uint64_t run_full[kRunSlots];
  uint64_t run_empty[kRunSlots];
  // Every thread arrives for what it has written or read itself: compute-sanitizer's racecheck follows
  // neither one lane's arrival for its warp nor bar.arrive.
  uint64_t span_full[S::kFoldSlots];
  uint64_t span_empty[S::kFoldSlots];
};

}  // namespace bifocal::kernels::cuda
