// A warp copies W, a warp copies x, two warpgroups multiply. The copies of W start before the kernel ahead
// has ended.
#include "kernels/cuda/skinny_gemm.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "base/int_math.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"
#include "kernels/cuda/skinny_gemm_finish.h"
#include "kernels/cuda/skinny_gemm_fold.h"
#include "kernels/cuda/skinny_gemm_work.h"
#include "kernels/cuda/tensor_maps.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {
namespace skinny {
namespace {

constexpr int kConsumers = kWarpgroups * 128;
constexpr int kThreads = kConsumers + 64;

template <class S>
__device__ void copy_w(const Params& params, const Rings<S>& rings) {
  const int unit_bytes = params.unit_groups * kChunkPanels * kGroupBytes;
  WCursor at(params.w_slots);
  for (int pass = 0; pass < params.passes; ++pass) {
    const Work work(params, pass);
    for (int chunk = work.begin_chunk; chunk < work.end_chunk; ++chunk) {
      for (int tile = 0; tile < work.tiles; ++tile, at.advance()) {
        const int begin = work.tile_begin(tile);
        const int units = work.tile_units(tile);
        uint64_t* full = &rings.barriers.w_full[at.slot];
        mbarrier_wait(&rings.barriers.w_empty[at.slot], at.phase ^ 1);
        mbarrier_expect(full, static_cast<uint32_t>(units * unit_bytes));
        for (int i = 0; i < units; ++i) {
          load_tensor_5d(rings.w(at.slot) + i * unit_bytes, &params.w_map, full, 0, 0, chunk * kChunkPanels,
                         0, begin + i, kEvictFirst);
        }
      }
    }
  }
}

template <class S>
__device__ void copy_x(const Params& params, const Rings<S>& rings) {
  RingCursor<S::kXSlots> at;
  for (int pass = 0; pass < params.passes; ++pass) {
    const Work work(params, pass);
    for (int chunk = work.begin_chunk; chunk < work.end_chunk; ++chunk, at.advance()) {
      uint64_t* full = &rings.barriers.x_full[at.slot];
      mbarrier_wait(&rings.barriers.x_empty[at.slot], at.phase ^ 1);
      mbarrier_expect(full, S::kXBytes);
      load_tensor_3d(rings.x(at.slot), &params.x_map, full, 0, 0, chunk * kChunkPanels, kEvictLast);
    }
  }
}

template <class S>
__device__ __forceinline__ void multiply(float (&d)[S::kValues], const uint8_t* w_slot,
                                         const uint8_t* x_slot) {
  const WgmmaMatrix<kChunkPanels * kGroupBytes, 0> w(smem_address(w_slot));
  const WgmmaMatrix<kGroupBytes, 0> x(smem_address(x_slot));
  wgmma_touch(d);
  wgmma_fence();
#pragma unroll
  for (uint32_t panel = 0; panel < kChunkPanels; ++panel) {
#pragma unroll
    for (uint32_t step = 0; step < kPanel / 16; ++step) {
      wgmma_shared<S::kTokens>(d, w.plus(panel * kGroupBytes + step * 32),
                               x.plus(panel * S::kXPanelBytes + step * 32), 1);
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_touch(d);
}

template <class S, Result kResult>
__device__ __forceinline__ void finish_sums(const Params& params, const Work& work,
                                            const float (&d)[kOwnTiles][S::kValues]) {
  const Finisher<kResult> finisher(params);
#pragma unroll
  for (int i = 0; i < kOwnTiles; ++i) {
    const int tile = i * kWarpgroups + static_cast<int>(threadIdx.x) / 128;
    if (tile >= work.tiles) continue;
    const int begin = work.tile_begin(tile);
    const int units = work.tile_units(tile);
#pragma unroll
    for (int j = 0; j < S::kTokens / 8; ++j) {
      int token = 8 * j;
      asm volatile(""
                   : "+r"(token));  // or all addresses would wait in registers, of which the sums need most
      if (token >= params.m) continue;
      finisher.finish(make_float4(d[i][4 * j], d[i][4 * j + 1], d[i][4 * j + 2], d[i][4 * j + 3]), begin,
                      units, token);
    }
  }
}

template <class S, Result kResult>
__device__ void consume(const Params& params, const Rings<S>& rings) {
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const bool signals = threadIdx.x % 32 == 0;
  WCursor at(params.w_slots);
  RingCursor<S::kXSlots> x_at;
  grid_dependency_wait();
  for (int pass = 0; pass < params.passes; ++pass) {
    const Work work(params, pass);
    float d[kOwnTiles][S::kValues];
#pragma unroll
    for (int i = 0; i < kOwnTiles; ++i) {
#pragma unroll
      for (float& value : d[i]) value = 0.0F;
    }
    for (int chunk = work.begin_chunk; chunk < work.end_chunk; ++chunk, x_at.advance()) {
      mbarrier_wait(&rings.barriers.x_full[x_at.slot], x_at.phase);
#pragma unroll
      for (int tile = 0; tile < kBlockTiles; ++tile) {
        if (tile >= work.tiles) continue;
        // Of the others' pieces too: who skipped them could be a whole ring ahead, and take one phase for
        // another.
        mbarrier_wait(&rings.barriers.w_full[at.slot], at.phase);
        if (tile % kWarpgroups == warpgroup) {
          multiply<S>(d[tile / kWarpgroups], rings.w(at.slot), rings.x(x_at.slot));
        } else {
          __syncwarp();
        }
        if (signals) mbarrier_arrive(&rings.barriers.w_empty[at.slot]);
        at.advance();
      }
      __syncwarp();
      if (signals) mbarrier_arrive(&rings.barriers.x_empty[x_at.slot]);
    }
    if (params.parts == 1) {
      finish_sums<S, kResult>(params, work, d);
    } else {
      leave_sums<S>(params, work, d);
    }
  }
  if (params.parts > 1) fold_sums<S, kResult>(params, Work(params, 0));
}

template <class S, Result kResult>
__global__ void __launch_bounds__(kThreads, 1) skinny_kernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t memory[];
  __shared__ Barriers barriers;
  // The swizzle counts from multiples of 1,024.
  const Rings<S> rings{memory + ((1024 - smem_address(memory) % 1024) % 1024), params.w_slot_bytes, barriers};
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    prefetch_tensor_map(&params.w_map);
    prefetch_tensor_map(&params.x_map);
    for (int i = 0; i < params.w_slots; ++i) {
      mbarrier_init(&barriers.w_full[i], 1);
      mbarrier_init(&barriers.w_empty[i], kConsumers / 32);
    }
    for (int i = 0; i < S::kXSlots; ++i) {
      mbarrier_init(&barriers.x_full[i], 1);
      mbarrier_init(&barriers.x_empty[i], kConsumers / 32);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (thread < kConsumers) {
    consume<S, kResult>(params, rings);
  } else if (thread == kConsumers) {
    copy_w<S>(params, rings);
  } else if (thread == kConsumers + 32) {
    grid_dependency_wait();
    copy_x<S>(params, rings);
  }
}

// W as the copies see it: groups of rows of each of `halves` parts of W.
struct Weights {
  const uint16_t* w;
  int rows;
  int halves;
};

// How W is shared, by N, K and the number of SMs alone: a row has the same bits whatever M is. Shares are
// equal, if need be on fewer CTAs: who had less would take bandwidth from those who end last.
void share_out(int num_sms, Params* params) {
  const auto groups = [&](int ctas) { return ceil_div(params->units, ctas) * params->unit_groups; };
  // Less than a tile's rows on each SM: more rows and fewer columns.
  const int sharing = std::max(1, num_sms / kParts);
  const bool cut = groups(num_sms) < kTileGroups && params->chunks >= kParts &&
                   groups(sharing) <= kBlockTiles * kTileGroups;
  params->parts = cut ? kParts : 1;
  const int share = ceil_div(params->units, cut ? sharing : num_sms);
  const int shares = ceil_div(params->units, share);
  params->passes = ceil_div(share * params->unit_groups, kBlockTiles * kTileGroups);
  params->blocks = shares * params->passes;
  int tile_units = 1;
  for (const int units : {params->units / params->blocks, ceil_div(params->units, params->blocks)}) {
    if (units > 0)
      tile_units = std::max(tile_units, ceil_div(units, Work::tiles_of(units, params->unit_groups)));
  }
  params->w_slot_bytes = tile_units * params->unit_groups * kChunkPanels * kGroupBytes;
}

template <class S, Result kResult>
Status launch_skinny(Params params, const LinearArgs& args, const Weights& weights, int num_sms,
                     const LaunchOptions& launch) {
  static_assert(S::kBytes + sizeof(Barriers) <= 227 * 1024, "an SM's shared memory");
  const auto kernel = skinny_kernel<S, kResult>;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes),
                "shared memory of the skinny product"));
  const int panels = args.k / kPanel;
  const int64_t row_bytes = int64_t{args.k} * 2;
  const int half_rows = weights.rows / weights.halves;
  params.unit_groups = weights.halves;
  params.units = half_rows / kGroupRows;
  params.chunks = ceil_div(panels, kChunkPanels);
  share_out(num_sms, &params);
  params.w_slots =
      std::min(kMaxWSlots, (S::kWBytes - (kFullTileBytes - params.w_slot_bytes)) / params.w_slot_bytes);
  const std::array<TensorMapDim, 3> x_dims = {
      {{kPanel, 0, kPanel}, {args.m, row_bytes, S::kTokens}, {panels, kPanel * 2, kChunkPanels}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(args.x, x_dims, &params.x_map));
  const std::array<TensorMapDim, 5> w_dims = {{{kPanel, 0, kPanel},
                                               {kGroupRows, row_bytes, kGroupRows},
                                               {panels, kPanel * 2, kChunkPanels},
                                               {weights.halves, half_rows * row_bytes, weights.halves},
                                               {params.units, kGroupRows * row_bytes, 1}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(weights.w, w_dims, &params.w_map));
  const auto ctas = static_cast<unsigned>(params.blocks / params.passes * params.parts);
  return launch_kernel(kernel, dim3(ctas), kThreads, S::kBytes, launch, "the skinny product", params);
}

template <Result kResult>
Status launch_tokens(const LinearArgs& args, const Weights& weights, void* workspace, int num_sms,
                     const LaunchOptions& launch) {
  Params params{};
  params.m = args.m;
  params.n = args.n;
  params.bias = args.bias;
  params.residual = args.residual;
  params.out = args.out;
  params.partials = static_cast<float4*>(workspace);
  if (args.m <= 8) return launch_skinny<Shape<8>, kResult>(params, args, weights, num_sms, launch);
  if (args.m <= 16) return launch_skinny<Shape<16>, kResult>(params, args, weights, num_sms, launch);
  if (args.m <= 32) return launch_skinny<Shape<32>, kResult>(params, args, weights, num_sms, launch);
  return launch_skinny<Shape<64>, kResult>(params, args, weights, num_sms, launch);
}

Status unserved(int m, int n, int k) {
  return unsupported("the skinny product takes 1 to " + std::to_string(kSkinnyMaxM) +
                     " rows, N a multiple of 8 and K of 64, got M " + std::to_string(m) + ", N " +
                     std::to_string(n) + ", K " + std::to_string(k));
}

}  // namespace
}  // namespace skinny

bool skinny_serves(int m, int n, int k) {
  return m >= 1 && m <= kSkinnyMaxM && k > 0 && k % skinny::kPanel == 0 && n > 0 &&
         n % skinny::kGroupRows == 0;
}

bool skinny_serves_gated(int m, int inner, int k) {
  return skinny_serves(m, inner, k);
}

int64_t skinny_workspace_bytes(int num_sms) {
  return int64_t{num_sms} * skinny::kBlockTiles * 64 * kSkinnyMaxM * int64_t{sizeof(float)};
}

Status run_skinny(const LinearArgs& args, void* workspace, int num_sms, const LaunchOptions& launch) {
  using skinny::Result;
  if (!skinny_serves(args.m, args.n, args.k)) return skinny::unserved(args.m, args.n, args.k);
  const skinny::Weights weights{args.w, args.n, 1};
  return args.out_dtype == DType::f32
             ? skinny::launch_tokens<Result::f32>(args, weights, workspace, num_sms, launch)
             : skinny::launch_tokens<Result::bf16>(args, weights, workspace, num_sms, launch);
}

Status run_skinny_gated(const GatedLinearArgs& args, void* workspace, int num_sms,
                        const LaunchOptions& launch) {
  if (!skinny_serves_gated(args.m, args.inner, args.k)) {
    return skinny::unserved(args.m, 2 * args.inner, args.k);
  }
  LinearArgs product;
  product.x = args.x;
  product.m = args.m;
  product.n = args.inner;
  product.k = args.k;
  product.bias = args.bias;
  product.out = args.out;
  return skinny::launch_tokens<skinny::Result::gated>(product, {args.w, 2 * args.inner, 2}, workspace,
                                                      num_sms, launch);
}

}  // namespace bifocal::kernels::cuda
