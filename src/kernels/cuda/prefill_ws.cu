// Prefill attention for Hopper: a producer warp keeps a ring of blocks of keys and values full by tensor
// copies, across items; two warpgroups multiply them with wgmma, 64 query rows each.
#include <cuda_runtime.h>

#include <bit>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_rows.h"
#include "kernels/cuda/prefill_shared.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kProducerRegisters = 24;
constexpr int kConsumerRegisters = 240;

// Page ids of an item from its last page down, one per lane, the next ones already under way.
struct PageWindow {
  const int32_t* table;
  int top;    // page of lane 0
  int first;  // page of the item
  int ids;
  int next;

  __device__ __forceinline__ int load(int page) const {
    const int mine = page - static_cast<int>(threadIdx.x) % 32;
    return mine >= first ? table[mine] : 0;
  }
  __device__ __forceinline__ void open(int page) {
    top = page;
    ids = load(page);
    next = load(page - 32);
  }
  __device__ __forceinline__ int id(int page) {
    if (page <= top - 32) {
      top -= 32;
      ids = next;
      next = load(top - 32);
    }
    return __shfl_sync(~0U, ids, top - page);
  }
};

// What the producer warp keeps between items.
template <int kD>
struct Producer {
  using S = PrefillShape<kD>;
  PrefillShared<kD>& shared;
  const PrefillParams& params;
  RingCursor<S::kSlots> ring;
  RingCursor<S::kQSlots> q_ring;
  int lane = static_cast<int>(threadIdx.x) % 32;

  // An item beyond the last one stands for the end.
  __device__ __forceinline__ void produce_queries(const PrefillItem& item) {
    mbarrier_wait(&shared.q_empty[q_ring.slot], q_ring.phase ^ 1);
    if (lane == 0) {
      uint64_t* full = &shared.q_full[q_ring.slot];
      shared.items[q_ring.slot] = item;
      if (item.seq < 0) {
        mbarrier_arrive(full);
      } else {
        const int tokens = static_cast<int>((kPrefillRows * params.group_rcp) >> 16);
        mbarrier_expect(full, static_cast<uint32_t>(S::kPanels * 128 * tokens * params.group));
        for (int panel = 0; panel < S::kPanels; ++panel) {
          load_tensor_3d(shared.q[q_ring.slot] + panel * S::kQPanelBytes, &params.q_map, full, 64 * panel,
                         item.head * params.group, item.q_row, kEvictFirst);
        }
      }
    }
    q_ring.advance();
  }

  // Block `block` of an item's keys or values: the tiles of it that hold keys.
  __device__ __forceinline__ void produce_block(const CUtensorMap* map, const PrefillItem& item,
                                                PageWindow& pages, int block) {
    const int first_tile = item.kv_begin / kTileTokens;
    const int end_tile = (item.kv_len + kTileTokens - 1) / kTileTokens;
    uint64_t* full = &shared.full[ring.slot];
    mbarrier_wait(&shared.empty[ring.slot], ring.phase ^ 1);
    const int begin = max(block * S::kTiles, first_tile);
    const int end = min((block + 1) * S::kTiles, end_tile);
    if (lane == 0) {
      if (begin < end) {
        mbarrier_expect(full, static_cast<uint32_t>((end - begin) * S::kTileBytes));
      } else {
        mbarrier_arrive(full);
      }
    }
    for (int tile = end - 1; tile >= begin; --tile) {
      const int page = tile >> params.page_tiles_log2;
      const int id = pages.id(page) + params.first_page;
      const int group = (tile - (page << params.page_tiles_log2)) * (kTileTokens / 8) +
                        item.head * params.origin.groups_per_head + id * params.origin.groups_per_page;
      if (lane == 0) {
        load_tensor_5d(shared.blocks[ring.slot] + (tile - block * S::kTiles) * S::kTileBytes, map, full, 0, 0,
                       0, group, params.origin.pages_outermost ? id : item.head, kEvictLast);
      }
    }
    ring.advance();
  }
};

template <int kD>
__device__ __forceinline__ void produce(PrefillShared<kD>& shared, const PrefillParams& params) {
  using S = PrefillShape<kD>;
  Producer<kD> producer{shared, params};
  const int num_items = params.queue->num_items;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int index = static_cast<int>(blockIdx.x);
  while (index < num_items) {
    const PrefillItem item = params.items[index];
    producer.produce_queries(item);
    const PrefillBlocks blocks = prefill_blocks(item, S::kN);
    PageWindow keys;
    keys.table = params.page_table + item.seq * params.page_table_stride;
    keys.first = item.kv_begin / kTileTokens >> params.page_tiles_log2;
    const int kv_end = min(blocks.end * S::kN, item.kv_len);
    keys.open(kv_end > 0 ? (kv_end - 1) / kTileTokens >> params.page_tiles_log2 : -1);
    PageWindow values = keys;
    for (int block = blocks.end - 1; block >= blocks.begin; --block) {
      producer.produce_block(params.k_map, item, keys, block);
      producer.produce_block(params.v_map, item, values, block);
    }
    index += static_cast<int>(gridDim.x);
  }
  producer.produce_queries(PrefillItem{});
  (void)lane;
}

template <int kD, bool kSoftcap>
__device__ __forceinline__ void consume(PrefillShared<kD>& shared, const PrefillParams& params,
                                        int warpgroup) {
  using S = PrefillShape<kD>;
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int lane = thread % 32;
  RingCursor<S::kSlots> ring;
  RingCursor<S::kQSlots> q_ring;
  const auto release = [&](uint64_t* barrier) {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(barrier);
  };
  const RowPositions rows = row_positions(params, warpgroup * 64 + thread / 32 * 16 + lane / 4);
  while (true) {
    mbarrier_wait(&shared.q_full[q_ring.slot], q_ring.phase);
    const PrefillItem item = shared.items[q_ring.slot];
    if (item.seq < 0) break;
    const PrefillBlocks blocks = prefill_blocks(item, S::kN);
    const uint32_t q = smem_address(shared.q[q_ring.slot]) + static_cast<uint32_t>(warpgroup * 64 * 128);
    RowState state{{-INFINITY, -INFINITY}, {0.0F, 0.0F}};
    float o[kD / 2];
    for (int block = blocks.end - 1; block >= blocks.begin; --block) {
      const bool first = block == blocks.end - 1;
      float s[S::kN / 2];
      mbarrier_wait(&shared.full[ring.slot], ring.phase);
      wgmma_fence();
      multiply_keys<kD>(q, smem_address(shared.blocks[ring.slot]), s);
      wgmma_commit();
      wgmma_wait<0>();
      wgmma_touch(s);
      release(&shared.empty[ring.slot]);
      ring.advance();
      if constexpr (kSoftcap) cap_logits(params.inner, s);
      const int first_key = block * S::kN;
      if (first_key + S::kN > item.position + 1 ||
          (params.window > 0 && first_key <= item.position + item.num_tokens - 1 - params.window)) {
        mask_keys<S::kN>(rows, item.position, params.window, first_key, s);
      }
      float keep[2];
      uint32_t p[S::kN / 4];
      update_state<S::kN>(params.cap, s, state, keep);
      pack_probabilities(s, p);
      if (!first) scale_rows(keep, o);
      mbarrier_wait(&shared.full[ring.slot], ring.phase);
      if (first_key < item.kv_begin || first_key + S::kN > item.kv_len) {
        clear_values<kD>(shared.blocks[ring.slot], item.kv_begin - first_key, item.kv_len - first_key,
                         1 + warpgroup);
      }
      wgmma_fence();
      multiply_values<kD>(p, smem_address(shared.blocks[ring.slot]), first ? 0 : 1, o);
      wgmma_commit();
      wgmma_wait<0>();
      wgmma_touch(o);
      release(&shared.empty[ring.slot]);
      ring.advance();
    }
    release(&shared.q_empty[q_ring.slot]);
    q_ring.advance();
    write_rows<kD>(params, item, rows, state, o);
  }
}

template <int kD, bool kSoftcap>
__global__ void __launch_bounds__(PrefillShape<kD>::kThreads, 1)
    prefill_ws_kernel(const __grid_constant__ PrefillParams params) {
  using S = PrefillShape<kD>;
  extern __shared__ __align__(1024) uint8_t storage[];
  auto& shared = *reinterpret_cast<PrefillShared<kD>*>(storage);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&params.q_map);
    prefetch_tensor_map(params.k_map);
    prefetch_tensor_map(params.v_map);
    for (int i = 0; i < S::kSlots; ++i) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], S::kConsumerThreads / 32);
    }
    for (int i = 0; i < S::kQSlots; ++i) {
      mbarrier_init(&shared.q_full[i], 1);
      mbarrier_init(&shared.q_empty[i], S::kConsumerThreads / 32);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  grid_dependency_wait();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == S::kWarpgroups) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x < S::kConsumerThreads + 32) produce<kD>(shared, params);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kD, kSoftcap>(shared, params, warpgroup);
  }
}

template <int kD, bool kSoftcap>
Status launch(const PrefillPlan& plan, const PrefillParams& params, const LaunchOptions& options) {
  constexpr int kBytes = static_cast<int>(sizeof(PrefillShared<kD>));
  static_assert(kBytes <= 227 * 1024, "an SM's shared memory");
  const auto kernel = prefill_ws_kernel<kD, kSoftcap>;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                         cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
                                    "shared memory of prefill_ws"));
  const dim3 grid(static_cast<unsigned>(std::min(plan.buffers->num_sms, plan.buffers->max_items)));
  return launch_kernel(kernel, grid, PrefillShape<kD>::kThreads, kBytes, options, "prefill_ws", params);
}

}  // namespace

Status run_prefill(const PrefillPlan& plan, const PrefillLayer& layer, const LaunchOptions& options) {
  const PrefillDesc& desc = plan.desc;
  if (plan.batch.num_seqs == 0 || layer.num_tokens == 0) return {};
  const int group = desc.num_heads / desc.num_kv_heads;
  PrefillParams params{};
  QueryRows rows;
  rows.q = layer.q;
  rows.token_stride = layer.q_stride;
  rows.num_tokens = layer.num_tokens;
  rows.num_heads = desc.num_heads;
  rows.head_dim = desc.head_dim;
  rows.box_tokens = kPrefillRows / group;
  rows.box_heads = group;
  BIFOCAL_RETURN_IF_ERROR(make_query_map(rows, &params.q_map));
  params.items = plan.buffers->items.as<PrefillItem>();
  params.queue = plan.buffers->queue.as<PrefillQueue>();
  params.k_map = layer.kv->k();
  params.v_map = layer.kv->v();
  params.page_table = plan.batch.page_table;
  params.page_table_stride = plan.batch.page_table_stride;
  params.out = layer.out;
  params.out_stride = layer.out_stride;
  params.sinks = layer.sinks;
  params.lse = layer.lse;
  params.origin = layer.kv->origin;
  params.page_tiles_log2 = std::countr_zero(static_cast<unsigned>(desc.page_size / kTileTokens));
  params.first_page = layer.first_page;
  params.num_heads = desc.num_heads;
  params.group = group;
  params.group_rcp = static_cast<uint32_t>((65536 + group - 1) / group);
  params.window = desc.window;
  const bool softcap = desc.softcap > 0.0F;
  params.cap = (softcap ? desc.softcap : desc.scale) * kLog2E;
  params.inner = softcap ? desc.scale / desc.softcap : 0.0F;
  switch (desc.head_dim) {
#ifndef BIFOCAL_PREFILL_ONLY_128
    case 64:
      return softcap ? launch<64, true>(plan, params, options) : launch<64, false>(plan, params, options);
    case 256:
      return softcap ? launch<256, true>(plan, params, options) : launch<256, false>(plan, params, options);
#endif
    case 128:
      return softcap ? launch<128, true>(plan, params, options) : launch<128, false>(plan, params, options);
    default:
      return internal_error("prefill_ws: no kernel for head dim " + std::to_string(desc.head_dim));
  }
}

}  // namespace bifocal::kernels::cuda
