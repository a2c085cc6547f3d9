// A warp copies W, a warp copies x, a warp computes the norms' factors, a warpgroup multiplies. Copies of W
// wait for free slots and nothing else: they start before the kernel ahead has ended, and run on into the
// next link.
#include "kernels/cuda/skinny_chain.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/skinny_chain_finish.h"
#include "kernels/cuda/skinny_chain_link.h"
#include "kernels/cuda/tensor_maps.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {
namespace chain {
namespace {

constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + 96;
constexpr int kSharedBytes = Ring::kBytes + 1024;

struct Shared {
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t scales_known;
  uint64_t scales_used;
  FinishShared finish;
};
static_assert(kSharedBytes + sizeof(Shared) <= 227 * 1024, "an SM's shared memory");

__device__ int cta() {
  return static_cast<int>(blockIdx.x);
}

// Until all of link `which` is in memory.
__device__ void wait_for_link(const Params& params, int which) {
  while (load_acquire(params.finished + which) < params.links[which].num_ctas) {
  }
}

// Calls load(link, share, tile, piece, slot) for each piece of this CTA as soon as its slot is free, and
// begin(which) before the first of a link.
template <class Begin, class Load>
__device__ void fill(const Params& params, const Ring& ring, const Begin& begin, const Load& load) {
  RingCursor<kStages> at;
  for (int which = 0; which < params.num_links; ++which) {
    const Link& link = params.links[which];
    begin(which);
    const Share share(link, cta());
    for (int tile = 0; tile < share.tiles; ++tile) {
      for (int piece = 0; piece < link.tile_pieces; ++piece, at.advance()) {
        mbarrier_wait(&ring.empty[at.slot], at.phase ^ 1);
        load(link, share, tile, piece, at.slot);
      }
    }
  }
}

__device__ void copy_w(const Params& params, const Ring& ring) {
  fill(
      params, ring, [](int) {},
      [&](const Link& link, const Share& share, int tile, int piece, int slot) {
        const int begin = share.tile_begin(tile);
        const int end = share.tile_begin(tile + 1);
        const int unit_bytes = link.unit_groups * link.panels * kGroupBytes;
        mbarrier_expect(&ring.full[slot], static_cast<uint32_t>((end - begin) * unit_bytes));
        for (int unit = begin; unit < end; ++unit) {
          load_tensor_5d(ring.w(slot) + (unit - begin) * unit_bytes, &link.w_map, &ring.full[slot], 0, 0,
                         piece * link.panels, 0, unit, kEvictFirst);
        }
      });
}

__device__ void copy_x(const Params& params, const Ring& ring) {
  fill(
      params, ring,
      [&](int which) {
        if (which == 0) {
          grid_dependency_wait();
        } else {
          wait_for_link(params, which - 1);
          async_proxy_fence_global();
        }
      },
      [&](const Link& link, const Share&, int, int piece, int slot) {
        mbarrier_expect(&ring.full[slot], static_cast<uint32_t>(link.panels * kTokens * kPanel * 2));
        load_tensor_3d(ring.x(slot), &link.x_map, &ring.full[slot], 0, 0, piece * link.panels, kEvictLast);
      });
}

// One over the root mean square of each token's row, in one order whatever M is.
__device__ void compute_scales(const Params& params, Shared& shared) {
  grid_dependency_wait();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t phase = 0;
  for (int which = 1; which < params.num_links; ++which) {
    if (lane == 0) wait_for_link(params, which - 1);
    __syncwarp();
    const Link& ahead = params.links[which - 1];
    if (ahead.norm == nullptr) continue;
    float sums[kTokens] = {};
    for (int i = lane; i < ahead.num_ctas; i += 32) {
#pragma unroll
      for (int token = 0; token < kTokens; ++token) {
        sums[token] += __ldcg(params.squares + token * static_cast<int>(gridDim.x) + i);
      }
    }
    mbarrier_wait(&shared.scales_used, phase ^ 1);
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
      const float mean = warp_sum(sums[token]) / static_cast<float>(ahead.n);
      if (lane == token) shared.finish.scales[token] = rsqrtf(mean + params.norm_eps);
    }
    mbarrier_arrive(&shared.scales_known);
    phase ^= 1;
  }
}

// The last CTA that waits for no other makes the counters ready for the next chain.
__device__ void leave(const Params& params) {
  if (params.num_links == 1) return;
  if (atomicAdd(params.left, 1) != 2 * static_cast<int>(gridDim.x) - 1) return;
  __threadfence();
  for (int which = 0; which < params.num_links; ++which) params.finished[which] = 0;
  *params.left = 0;
}

template <int kPanels>
__device__ __forceinline__ void multiply_panels(const WgmmaRows& w, const WgmmaRows& x, int add,
                                                float (&d)[4]) {
  wgmma_touch(d);
  wgmma_fence();
#pragma unroll
  for (uint32_t panel = 0; panel < kPanels; ++panel) {
#pragma unroll
    for (uint32_t step = 0; step < kPanel / 16; ++step) {
      const uint32_t offset = panel * kGroupBytes + step * 32;
      wgmma_shared<kTokens>(d, w.plus(offset), x.plus(offset), add | static_cast<int>(panel + step));
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_touch(d);
}

// add: 0 for the first piece of a tile.
__device__ __forceinline__ void multiply(const Link& link, const Ring& ring, int slot, int add,
                                         float (&d)[4]) {
  const WgmmaRows w(smem_address(ring.w(slot)), static_cast<uint32_t>(link.panels * kGroupBytes));
  const WgmmaRows x(smem_address(ring.x(slot)), kGroupBytes);
  switch (link.panels) {
    case 1:
      return multiply_panels<1>(w, x, add, d);
    case 2:
      return multiply_panels<2>(w, x, add, d);
    case 3:
      return multiply_panels<3>(w, x, add, d);
    case 4:
      return multiply_panels<4>(w, x, add, d);
    case 5:
      return multiply_panels<5>(w, x, add, d);
    case 6:
      return multiply_panels<6>(w, x, add, d);
    case 7:
      return multiply_panels<7>(w, x, add, d);
    default:
      return multiply_panels<8>(w, x, add, d);
  }
}

__device__ void consume(const Params& params, const Ring& ring, Shared& shared) {
  grid_dependency_wait();
  RingCursor<kStages> at;
  uint32_t scales_phase = 0;
  for (int which = 0; which < params.num_links; ++which) {
    const Link& link = params.links[which];
    const Share share(link, cta());
    Finisher finisher(params, which, shared.finish);
    float d[4];
    for (int tile = 0; tile < share.tiles; ++tile) {
      const int begin = share.tile_begin(tile);
      const int units = share.tile_begin(tile + 1) - begin;
      for (int piece = 0; piece < link.tile_pieces; ++piece, at.advance()) {
        mbarrier_wait(&ring.full[at.slot], at.phase);
        if (piece == 0) finisher.prefetch(begin, units);
        multiply(link, ring, at.slot, piece, d);
        if (threadIdx.x == 0) mbarrier_arrive(&ring.empty[at.slot]);
      }
      if (tile == 0 && finisher.scaled()) mbarrier_wait(&shared.scales_known, scales_phase);
      finisher.finish(d, begin, units);
    }
    if (finisher.scaled()) {
      if (share.tiles == 0) mbarrier_wait(&shared.scales_known, scales_phase);
      mbarrier_arrive(&shared.scales_used);
      scales_phase ^= 1;
    }
    if (which + 1 < params.num_links && share.tiles > 0) finisher.announce(params.finished + which);
  }
}

__global__ void __launch_bounds__(kThreads, 1) skinny_chain_kernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t memory[];
  __shared__ Shared shared;
  Ring ring;
  ring.stages = memory + ((1024 - smem_address(memory) % 1024) % 1024);  // the swizzle counts from there
  ring.full = shared.full;
  ring.empty = shared.empty;
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < params.num_links) {
    prefetch_tensor_map(&params.links[thread].w_map);
    prefetch_tensor_map(&params.links[thread].x_map);
  }
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&ring.full[i], 2);
      mbarrier_init(&ring.empty[i], 1);
    }
    mbarrier_init(&shared.scales_known, 32);
    mbarrier_init(&shared.scales_used, kConsumers);
    mbarrier_init_fence();
  }
  __syncthreads();
  const int warp = thread / 32;
  if (thread < kConsumers) {
    consume(params, ring, shared);
  } else if (warp == kConsumers / 32 + 2) {
    compute_scales(params, shared);
    if (thread % 32 == 0) leave(params);
  } else if (thread == kConsumers) {
    copy_w(params, ring);
  } else if (thread == kConsumers + 32) {
    copy_x(params, ring);
    leave(params);
  }
}

constexpr int64_t kCounterBytes = 128;

int divide_up(int a, int b) {
  return (a + b - 1) / b;
}

Status set_link(const LinearLink& from, int m, int num_sms, Link* link) {
  const int panels = from.k / kPanel;
  const int64_t row_bytes = int64_t{from.k} * 2;
  link->units = from.n / kGroupRows;
  link->unit_groups = from.gated ? 2 : 1;
  // No more CTAs than the largest share needs: who has less would take bandwidth from those who finish last.
  const int most = divide_up(link->units, num_sms);
  link->num_ctas = divide_up(link->units, most);
  // The largest tile that any CTA has: it decides how many panels of 32 groups a piece can hold.
  int tile_units = 1;
  for (const int units : {most, std::max(1, most - 1)}) {
    tile_units = std::max(tile_units, divide_up(units, Share::tiles_of(units, link->unit_groups)));
  }
  link->panels = std::min({kMaxPanels, kWBytes / kGroupBytes / (tile_units * link->unit_groups), panels});
  link->tile_pieces = divide_up(panels, link->panels);
  link->n = from.n;
  link->bias = from.bias;
  link->residual = from.residual;
  link->out = from.out;
  link->norm = from.norm;
  link->normed = from.normed;
  const std::array<TensorMapDim, 3> x_dims = {
      {{kPanel, 0, kPanel}, {m, row_bytes, kTokens}, {panels, kPanel * 2, link->panels}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(from.x, x_dims, &link->x_map));
  const std::array<TensorMapDim, 5> w_dims = {{{kPanel, 0, kPanel},
                                               {kGroupRows, row_bytes, kGroupRows},
                                               {panels, kPanel * 2, link->panels},
                                               {link->unit_groups, from.n * row_bytes, link->unit_groups},
                                               {link->units, kGroupRows * row_bytes, 1}}};
  return make_tensor_map(from.w, w_dims, &link->w_map);
}

}  // namespace
}  // namespace chain

bool skinny_chain_serves(const LinearChain& chain) {
  const auto links = chain.view();
  if (chain.m < 1 || chain.m > kChainMaxM || links.empty()) return false;
  for (size_t i = 0; i < links.size(); ++i) {
    const LinearLink& link = links[i];
    if (link.n <= 0 || link.n % chain::kGroupRows != 0 || link.k <= 0 || link.k % chain::kPanel != 0) {
      return false;
    }
    if (link.norm == nullptr) continue;
    const bool read = i + 1 < links.size() && links[i + 1].x == link.normed && links[i + 1].k == link.n;
    if (!read || link.gated) return false;
  }
  return true;
}

int64_t skinny_chain_workspace_bytes(int num_sms) {
  return chain::kCounterBytes + int64_t{num_sms} * chain::kTokens * int64_t{sizeof(float)};
}

Status run_skinny_chain(const LinearChain& links, void* workspace, int num_sms, const LaunchOptions& launch) {
  if (!skinny_chain_serves(links)) return unsupported("the skinny chain doesn't serve these products");
  chain::Params params{};
  params.m = links.m;
  params.norm_eps = links.norm_eps;
  int ctas = 0;
  for (const LinearLink& from : links.view()) {
    chain::Link* link = &params.links[params.num_links++];
    BIFOCAL_RETURN_IF_ERROR(chain::set_link(from, links.m, num_sms, link));
    ctas = std::max(ctas, link->num_ctas);
  }
  params.finished = static_cast<int*>(workspace);
  params.left = params.finished + chain::kMaxLinks;
  params.squares = reinterpret_cast<float*>(static_cast<std::byte*>(workspace) + chain::kCounterBytes);
  const auto kernel = chain::skinny_chain_kernel;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, chain::kSharedBytes),
                "shared memory of the skinny chain"));
  return launch_kernel(kernel, dim3(static_cast<unsigned>(ctas)), chain::kThreads, chain::kSharedBytes,
                       launch, "the skinny chain", params);
}

}  // namespace bifocal::kernels::cuda
