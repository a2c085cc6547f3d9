// Prefill attention for Hopper. One persistent CTA per SM takes items from the plan's list (prefill_plan.h).
// Of its warps one fetches items ahead of their time, one keeps a ring of blocks of keys and values full by
// tensor copies, across items, and two warpgroups multiply, 64 query rows each.
#include <cuda_runtime.h>

#include <bit>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_rows.h"
#include "kernels/cuda/prefill_shared.h"

namespace bifocal::kernels::cuda {
namespace {

// Pages of an item from its last one down: ids, one per lane, the next ones already under way.
struct PageWindow {
  const int32_t* table;
  int first;
  int top;  // page of lane 0; -1: there are no keys
  int ids;
  int next;

  // Without the ids.
  template <int kD>
  static __device__ __forceinline__ PageWindow of(const PrefillParams& params, const PrefillItem& item) {
    constexpr int kN = PrefillShape<kD>::kN;
    PageWindow pages;
    pages.table = params.page_table + item.seq * params.page_table_stride;
    pages.first = item.kv_begin >> params.page_log2;
    pages.top = (min(prefill_blocks(item, kN).end * kN, item.kv_len) - 1) >> params.page_log2;
    return pages;
  }
  __device__ __forceinline__ int load(int page) const {
    const int mine = page - static_cast<int>(threadIdx.x) % 32;
    return mine >= first ? table[mine] : 0;
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

// Takes items from the queue ahead of the others. Beyond the CTAs' first items exactly num_items draws are
// made, those that find nothing included, so the last one can leave the queue as it was.
template <int kD>
__device__ __forceinline__ void schedule(PrefillShared<kD>& shared, const PrefillParams& params) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_items = params.queue->num_items;
  int index = static_cast<int>(blockIdx.x);
  RingCursor<PrefillShape<kD>::kItemSlots> ring;
  while (true) {
    mbarrier_wait(&shared.work_empty[ring.slot], ring.phase ^ 1);
    PrefillItem item;
    int id = 0;
    if (index < num_items) {
      item = params.items[index];
      const PageWindow pages = PageWindow::of<kD>(params, item);
      id = pages.load(pages.top);
    }
    if (lane == 0) shared.work[ring.slot].item = item;
    shared.work[ring.slot].pages[lane] = id;
    mbarrier_arrive(&shared.work_full[ring.slot]);
    if (item.seq < 0) break;
    ring.advance();
    int taken = 0;
    if (lane == 0) taken = atomicAdd(&params.queue->taken, 1);
    if (lane == 0 && taken == num_items - 1) params.queue->taken = 0;
    index = __shfl_sync(~0U, taken, 0) + static_cast<int>(gridDim.x);
  }
  launch_dependents();
}

// One lane of the producer warp does the copying; all look up pages.
template <int kD>
struct Producer {
  using S = PrefillShape<kD>;
  PrefillShared<kD>& shared;
  const PrefillParams& params;
  RingCursor<S::kSlots> ring;
  RingCursor<S::kQSlots> q_ring;
  int lane = static_cast<int>(threadIdx.x) % 32;

  __device__ __forceinline__ void produce_queries(const PrefillItem& item) {
    mbarrier_wait(&shared.q_empty[q_ring.slot], q_ring.phase ^ 1);
    if (lane == 0) {
      uint64_t* full = &shared.q_full[q_ring.slot];
      mbarrier_expect(full, static_cast<uint32_t>(S::kPanels * 128) * params.q_rows);
      for (int panel = 0; panel < S::kPanels; ++panel) {
        load_tensor_3d(shared.q[q_ring.slot] + panel * S::kQPanelBytes, &params.q_map, full, 64 * panel,
                       item.head * params.group, item.q_row, kEvictFirst);
      }
    }
    q_ring.advance();
  }

  // Where the copy engine finds the tiles of a block.
  struct Tiles {
    int group[S::kTiles];
    int outermost[S::kTiles];  // -1: the tile holds no keys of the item
  };
  __device__ __forceinline__ Tiles locate(const PrefillItem& item, PageWindow& pages, int block) const {
    Tiles tiles;
#pragma unroll
    for (int i = S::kTiles - 1; i >= 0; --i) {
      const int token = (block * S::kTiles + i) * kTileTokens;
      tiles.outermost[i] = -1;
      if (token >= item.kv_len || token + kTileTokens <= item.kv_begin) continue;
      const int page = token >> params.page_log2;
      const int id = pages.id(page) + params.first_page;
      tiles.group[i] = (token - (page << params.page_log2)) / 8 + item.head * params.origin.groups_per_head +
                       id * params.origin.groups_per_page;
      tiles.outermost[i] = params.origin.pages_outermost ? id : item.head;
    }
    return tiles;
  }

  __device__ __forceinline__ void produce_block(const CUtensorMap* map, const Tiles& tiles) {
    mbarrier_wait(&shared.empty[ring.slot], ring.phase ^ 1);
    if (lane == 0) {
      uint64_t* full = &shared.full[ring.slot];
      uint32_t bytes = 0;
#pragma unroll
      for (int i = 0; i < S::kTiles; ++i) bytes += tiles.outermost[i] >= 0 ? S::kTileBytes : 0;
      mbarrier_expect(full, bytes);
#pragma unroll
      for (int i = S::kTiles - 1; i >= 0; --i) {
        if (tiles.outermost[i] < 0) continue;
        load_tensor_5d(shared.blocks[ring.slot] + i * S::kTileBytes, map, full, 0, 0, 0, tiles.group[i],
                       tiles.outermost[i], kEvictLast);
      }
    }
    ring.advance();
  }
};

// Values trail keys by one block, across items: the order in which the consumers want them.
template <int kD>
__device__ __forceinline__ void produce(PrefillShared<kD>& shared, const PrefillParams& params) {
  using S = PrefillShape<kD>;
  Producer<kD> producer{shared, params};
  RingCursor<S::kItemSlots> items;
  typename Producer<kD>::Tiles before{};
  bool any = false;
  while (true) {
    mbarrier_wait(&shared.work_full[items.slot], items.phase);
    // Stays in shared memory: this warp has few registers. The consumers release it after their last block.
    const PrefillWork& work = shared.work[items.slot];
    const PrefillItem& item = work.item;
    if (item.seq < 0) break;
    if (S::kQSlots > 1) producer.produce_queries(item);
    PageWindow pages = PageWindow::of<kD>(params, item);
    pages.ids = work.pages[threadIdx.x % 32];
    pages.next = pages.load(pages.top - 32);
    int block = prefill_blocks(item, S::kN).end;
    do {
      const auto tiles = producer.locate(item, pages, --block);
      producer.produce_block(params.k_map, tiles);
      if (any) producer.produce_block(params.v_map, before);
      // With one slot, the last item's rows are in use until its last keys are.
      if (S::kQSlots == 1 && block == prefill_blocks(item, S::kN).end - 1) producer.produce_queries(item);
      before = tiles;
      any = true;
    } while (block > prefill_blocks(item, S::kN).begin);
    items.advance();
  }
  if (any) producer.produce_block(params.v_map, before);
}

// A warpgroup's 64 rows, item after item. The products of a block's keys are issued together with those of
// the values of the block before, also when that block is the last one of the item before: the tensor cores
// never wait for an item to end. Items stay in shared memory: registers are scarce.
template <int kD, bool kSoftcap>
struct Consumer {
  using S = PrefillShape<kD>;
  PrefillShared<kD>& shared;
  const PrefillParams& params;
  const int first_row;
  RingCursor<S::kSlots> ring;  // at the next block of keys; the values of the block before it come next
  RingCursor<S::kItemSlots> items;
  RingCursor<S::kQSlots> q_ring;
  int accumulate = 0;   // whether o holds anything of the item
  int cleared_end = 0;  // of the last block, keys in [cleared_begin, cleared_end) exist; 0: all do
  int cleared_begin = 0;
  RowState state;
  float keep[2];
  float s[S::kN / 2];
  uint32_t p[S::kN / 4];
  float o[kD / 2];

  __device__ __forceinline__ void release(uint64_t* barrier) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
  }
  __device__ __forceinline__ const PrefillItem& item() const { return shared.work[items.slot].item; }

  // Whether half of the item's first block is enough.
  __device__ __forceinline__ bool first_is_half() const {
    const int kv_end = item().position + item().num_tokens;
    return S::kN == 128 && kv_end - (prefill_blocks(item(), S::kN).end - 1) * S::kN <= 64;
  }

  // Waits for an item; false when there are no more.
  __device__ __forceinline__ bool open_item() {
    mbarrier_wait(&shared.work_full[items.slot], items.phase);
    if (item().seq < 0) return false;
    mbarrier_wait(&shared.q_full[q_ring.slot], q_ring.phase);
    return true;
  }
  // The logits of a block's first kKeys keys.
  template <int kKeys>
  __device__ __forceinline__ float (&logits())[kKeys / 2] {
    return reinterpret_cast<float(&)[kKeys / 2]>(s);
  }
  template <int kKeys>
  __device__ __forceinline__ void issue_keys() {
    mbarrier_wait(&shared.full[ring.slot], ring.phase);
    wgmma_fence();
    multiply_keys<kD, kKeys>(smem_address(shared.q[q_ring.slot]) + first_row / 64 * (64 * 128),
                             smem_address(shared.blocks[ring.slot]), logits<kKeys>());
    wgmma_commit();
  }
  __device__ __forceinline__ void issue_values(const RingCursor<S::kSlots>& values) {
    mbarrier_wait(&shared.full[values.slot], values.phase);
    wgmma_fence();
    multiply_values<kD>(p, smem_address(shared.blocks[values.slot]), accumulate, o);
    wgmma_commit();
    accumulate = 1;
  }
  // Before any product is issued: the rows of V that hold no keys.
  __device__ __forceinline__ void clear_if_needed(const RingCursor<S::kSlots>& values) {
    if (cleared_end == 0) return;
    mbarrier_wait(&shared.full[values.slot], values.phase);
    clear_values<kD>(shared.blocks[values.slot], cleared_begin, cleared_end,
                     static_cast<uint32_t>(1 + first_row / 64));
    cleared_end = 0;
  }

  template <bool kMasked, int kKeys>
  __device__ __forceinline__ void softmax(int block) {
    if constexpr (kSoftcap) cap_logits(params.inner, logits<kKeys>());
    if constexpr (kMasked) {
      const int first_key = block * S::kN;
      const PrefillItem& now = item();
      mask_keys<kKeys>(params, first_row, now.position, first_key, logits<kKeys>());
      if (first_key < now.kv_begin || first_key + S::kN > now.kv_len) {
        cleared_begin = now.kv_begin - first_key;
        cleared_end = max(now.kv_len - first_key, 1);
      }
    }
    update_state<kKeys>(params.cap, logits<kKeys>(), state, keep);
  }

  // Probabilities of keys beyond the first kKeys are zero.
  template <int kKeys>
  __device__ __forceinline__ void pack() {
    pack_probabilities(logits<kKeys>(), reinterpret_cast<uint32_t(&)[kKeys / 4]>(p));
#pragma unroll
    for (int i = kKeys / 4; i < S::kN / 4; ++i) p[i] = 0;
  }

  // The first block of all, of which rows see no more than the first kKeys keys.
  template <int kKeys>
  __device__ __forceinline__ void start() {
    issue_keys<kKeys>();
    wgmma_wait<0>();
    wgmma_touch(s);
    release(&shared.empty[ring.slot]);
    ring.advance();
    state = {{-INFINITY, -INFINITY}, {0.0F, 0.0F}};
    softmax<true, kKeys>(prefill_blocks(item(), S::kN).end - 1);
    pack<kKeys>();
  }

  template <bool kMasked>
  __device__ __forceinline__ void step(int block) {
    RingCursor<S::kSlots> values = ring;
    values.advance();
    clear_if_needed(values);
    issue_keys<S::kN>();
    issue_values(values);
    wgmma_wait<1>();
    wgmma_touch(s);
    release(&shared.empty[ring.slot]);
    softmax<kMasked, S::kN>(block);
    wgmma_wait<0>();
    wgmma_touch(o);
    release(&shared.empty[values.slot]);
    pack<S::kN>();
    scale_rows(keep, o);
    ring = values;
    ring.advance();
  }

  // The first block of an item, with the last values of the one before.
  template <int kKeys>
  __device__ __forceinline__ void change_item(const RingCursor<S::kItemSlots>& before) {
    RingCursor<S::kSlots> values = ring;
    values.advance();
    clear_if_needed(values);
    issue_keys<kKeys>();
    issue_values(values);
    wgmma_wait<1>();
    wgmma_touch(s);
    release(&shared.empty[ring.slot]);
    const RowState done = state;
    state = {{-INFINITY, -INFINITY}, {0.0F, 0.0F}};
    softmax<true, kKeys>(prefill_blocks(item(), S::kN).end - 1);
    wgmma_wait<0>();
    wgmma_touch(o);
    release(&shared.empty[values.slot]);
    pack<kKeys>();
    write(before, done);
    accumulate = 0;
    ring = values;
    ring.advance();
  }

  // The last values of all.
  __device__ __forceinline__ void finish(const RingCursor<S::kItemSlots>& before) {
    clear_if_needed(ring);
    issue_values(ring);
    wgmma_wait<0>();
    wgmma_touch(o);
    release(&shared.empty[ring.slot]);
    ring.advance();
    write(before, state);
  }

  __device__ __forceinline__ void write(const RingCursor<S::kItemSlots>& before, const RowState& done) {
    write_rows<kD>(params, shared.work[before.slot].item, first_row, done, o);
    release(&shared.work_empty[before.slot]);
  }

  // All blocks but the first: masks at both ends, none between.
  __device__ __forceinline__ void steps() {
    const PrefillItem& now = item();
    const int begin = prefill_blocks(now, S::kN).begin;
    const int last_begin = now.position + now.num_tokens - params.window;  // first key of the last row
    const int all_begin = params.window > 0 && last_begin > 0 ? (last_begin + S::kN - 1) / S::kN : begin;
    int block = prefill_blocks(now, S::kN).end - 2;
    int masked_end = max((now.position + 1) / S::kN, begin);
    while (true) {
      for (; block >= masked_end; --block) step<true>(block);
      if (block < begin) break;
      for (; block >= all_begin; --block) step<false>(block);
      if (block < begin) break;
      masked_end = begin;
    }
    release(&shared.q_empty[q_ring.slot]);
    q_ring.advance();
  }
};

template <int kD, bool kSoftcap>
__device__ __forceinline__ void consume(PrefillShared<kD>& shared, const PrefillParams& params,
                                        int warpgroup) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  Consumer<kD, kSoftcap> consumer{shared, params, warpgroup * 64 + thread / 32 * 16 + thread % 32 / 4};
  if (consumer.open_item()) {
    consumer.template start<PrefillShape<kD>::kN>();
    while (true) {
      consumer.steps();
      const auto before = consumer.items;
      consumer.items.advance();
      if (!consumer.open_item()) {
        consumer.finish(before);
        break;
      }
      if (consumer.first_is_half()) {
        consumer.template change_item<64>(before);
      } else {
        consumer.template change_item<PrefillShape<kD>::kN>(before);
      }
    }
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
    const auto init = [](auto& barriers, uint32_t arrivals) {
      for (uint64_t& barrier : barriers) mbarrier_init(&barrier, arrivals);
    };
    init(shared.work_full, 32);
    init(shared.work_empty, S::kConsumerWarps);
    init(shared.q_full, 1);
    init(shared.q_empty, S::kConsumerWarps);
    init(shared.full, 1);
    init(shared.empty, S::kConsumerWarps);
    mbarrier_init_fence();
  }
  __syncthreads();
  grid_dependency_wait();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == S::kWarpgroups) {
    give_registers<S::kProducerRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / 32 - S::kConsumerWarps;
    if (warp == 0) produce<kD>(shared, params);
    if (warp == 1) schedule<kD>(shared, params);
  } else {
    take_registers<S::kConsumerRegisters>();
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
  params.page_log2 = std::countr_zero(static_cast<unsigned>(desc.page_size));
  params.first_page = layer.first_page;
  params.num_heads = desc.num_heads;
  params.group = group;
  params.q_rows = static_cast<uint32_t>(rows.box_tokens * group);
  params.group_rcp = static_cast<uint32_t>((65536 + group - 1) / group);
  params.window = desc.window;
  const bool softcap = desc.softcap > 0.0F;
  params.cap = (softcap ? desc.softcap : desc.scale) * kLog2E;
  params.inner = softcap ? desc.scale / desc.softcap : 0.0F;
  switch (desc.head_dim) {
    case 64:
      return softcap ? launch<64, true>(plan, params, options) : launch<64, false>(plan, params, options);
    case 128:
      return softcap ? launch<128, true>(plan, params, options) : launch<128, false>(plan, params, options);
    case 256:
      return softcap ? launch<256, true>(plan, params, options) : launch<256, false>(plan, params, options);
    default:
      return internal_error("prefill_ws: no kernel for head dim " + std::to_string(desc.head_dim));
  }
}

}  // namespace bifocal::kernels::cuda
