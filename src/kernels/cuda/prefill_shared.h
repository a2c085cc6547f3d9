// What the warps of the prefill kernel share: parameters, the layout of shared memory, the rings.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/kv_maps.h"
#include "kernels/cuda/prefill_plan.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"

namespace bifocal::kernels::cuda {

struct PrefillParams {
  CUtensorMap q_map;
  const PrefillRecord* records;
  PrefillQueue* queue;
  const CUtensorMap* k_map;
  const CUtensorMap* v_map;
  const int32_t* page_table;
  int64_t page_table_stride;
  uint16_t* out;
  int64_t out_stride;
  const float* sinks;
  float* lse;
  TileOrigin origin;
  int page_log2;
  int first_page;
  int num_heads;
  int group;           // H / HK
  uint32_t q_rows;     // of a tile
  uint32_t group_rcp;  // row / group == row * group_rcp >> 16 for rows of a tile
  PrefillRule rule;
  float cap;    // logits in base-2 units are cap * f(s * inner), f tanh with softcap, else the identity
  float inner;  // 0: no softcap
};

template <int kHeadDim>
struct PrefillShape {
  static constexpr int kD = kHeadDim;
  static constexpr int kN = prefill_block_keys(kD);
  static constexpr int kWarpgroups = kPrefillRows / 64;  // that compute
  static constexpr int kConsumerThreads = kWarpgroups * 128;
  static constexpr int kConsumerWarps = kConsumerThreads / 32;
  static constexpr int kThreads = kConsumerThreads + 128;
  // Of a thread. A CTA starts with 168 for each and shares out no more.
  static constexpr int kProducerRegisters = kD == 256 ? 40 : 56;
  static constexpr int kConsumerRegisters = kD == 256 ? 232 : 224;
  static constexpr int kPanels = kD / 64;
  static constexpr int kQPanelBytes = kPrefillRows * 128;
  // A block of K or V: groups of eight tokens, of each group one panel after the other (kv_maps.h).
  static constexpr int kGroupBytes = kPanels * 1024;
  static constexpr int kTileBytes = kTileTokens * kD * 2;
  static constexpr int kTiles = kN / kTileTokens;
  // Of a block's tiles, those that one CTA copies to all; fewer tiles than CTAs: they take turns.
  static constexpr bool kInTurns = kTiles < kPrefillCtas;
  static constexpr int kOwnTiles = kInTurns ? kTiles : kTiles / kPrefillCtas;
  static constexpr int kBlockBytes = kN * kD * 2;
  static constexpr int kQSlots = kD == 256 ? 1 : 2;
  static constexpr int kSlots = kD == 64 ? 8 : 5;  // blocks of K and V in turn
  static constexpr int kItemSlots = 3;
};

// An item that the cluster has taken, this CTA's share, with the ids of its last pages, last first. Without a
// sequence: there are no more.
struct alignas(16) PrefillWork {
  PrefillItem item;
  int32_t pages[32];
};

template <int kD>
struct PrefillShared {
  using S = PrefillShape<kD>;
  alignas(1024) uint8_t q[S::kQSlots][S::kPanels * S::kQPanelBytes];
  alignas(1024) uint8_t blocks[S::kSlots][S::kBlockBytes];
  PrefillWork work[S::kItemSlots];
  uint64_t work_full[S::kItemSlots];
  uint64_t work_empty[S::kItemSlots];
  uint64_t q_full[S::kQSlots];
  uint64_t q_empty[S::kQSlots];
  uint64_t full[S::kSlots];
  uint64_t empty[S::kSlots];
};

}  // namespace bifocal::kernels::cuda
