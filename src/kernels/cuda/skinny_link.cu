// A warp copies W, a warp copies x, a warpgroup multiplies. Copies of W start before the kernel ahead has
// ended.
#include "kernels/cuda/skinny_link.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "base/int_math.h"
#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"
#include "kernels/cuda/tensor_maps.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kPanel = 64;    // columns of K: 128 bytes, the width of the swizzle
constexpr int kUnitRows = 8;  // of W; after so many rows the swizzle repeats
constexpr int kUnitBytes = kUnitRows * kPanel * 2;
constexpr int kTileUnits = 8;  // at most, wgmma's 64 rows
constexpr int kMaxPanels = 8;  // of a piece
constexpr int kTokens = kLinkMaxM;
constexpr int kWBytes = 32 * kUnitBytes;  // of a piece, at most
constexpr int kXBytes = kMaxPanels * kTokens * kPanel * 2;
constexpr int kStages = 5;
constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + 64;
constexpr int kSharedBytes = kStages * (kWBytes + kXBytes) + 1024;
static_assert(kStages * kXBytes >= kTileUnits * kMaxPanels * kUnitBytes - kWBytes,
              "the last W slot read as 64 rows");

struct Params {
  CUtensorMap w_map;
  CUtensorMap x_map;
  int units;        // of eight columns
  int panels;       // of a piece
  int tile_pieces;  // along K
  int m;
  int n;
  const uint16_t* bias;
  const uint16_t* residual;
  uint16_t* out;
};

// All W slots, then all x slots: what a tile lacks of 64 rows is read from what lies behind it, and dropped.
struct Ring {
  uint8_t* stages;
  uint64_t* full;   // W and x have come
  uint64_t* empty;  // both have been multiplied
  __device__ uint8_t* w(int slot) const { return stages + slot * kWBytes; }
  __device__ uint8_t* x(int slot) const { return stages + kStages * kWBytes + slot * kXBytes; }
};

// A CTA's units, cut into tiles of equal size up to one.
struct Share {
  int begin;
  int units;
  int tiles;
  __device__ explicit Share(const Params& params) {
    const int cta = static_cast<int>(blockIdx.x);
    const int ctas = static_cast<int>(gridDim.x);
    begin = cta * params.units / ctas;
    units = (cta + 1) * params.units / ctas - begin;
    tiles = (units + kTileUnits - 1) / kTileUnits;
  }
  __device__ int tile_begin(int tile) const { return begin + tile * units / tiles; }
};

// Calls load(share, tile, piece, slot) for each piece as soon as its slot is free.
template <class Load>
__device__ void fill(const Params& params, const Ring& ring, const Load& load) {
  const Share share(params);
  RingCursor<kStages> at;
  for (int tile = 0; tile < share.tiles; ++tile) {
    for (int piece = 0; piece < params.tile_pieces; ++piece, at.advance()) {
      mbarrier_wait(&ring.empty[at.slot], at.phase ^ 1);
      load(share, tile, piece, at.slot);
    }
  }
}

__device__ void copy_w(const Params& params, const Ring& ring) {
  const int bytes = params.panels * kUnitBytes;
  fill(params, ring, [&](const Share& share, int tile, int piece, int slot) {
    const int begin = share.tile_begin(tile);
    const int end = share.tile_begin(tile + 1);
    mbarrier_expect(&ring.full[slot], static_cast<uint32_t>((end - begin) * bytes));
    for (int unit = begin; unit < end; ++unit) {
      load_tensor_4d(ring.w(slot) + (unit - begin) * bytes, &params.w_map, &ring.full[slot], 0, 0,
                     piece * params.panels, unit, kEvictFirst);
    }
  });
}

__device__ void copy_x(const Params& params, const Ring& ring) {
  grid_dependency_wait();
  fill(params, ring, [&](const Share&, int, int piece, int slot) {
    mbarrier_expect(&ring.full[slot], static_cast<uint32_t>(params.panels * kTokens * kPanel * 2));
    load_tensor_3d(ring.x(slot), &params.x_map, &ring.full[slot], 0, 0, piece * params.panels, kEvictLast);
  });
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
      const uint32_t offset = panel * kUnitBytes + step * 32;
      wgmma_shared<kTokens>(d, w.plus(offset), x.plus(offset), add | static_cast<int>(panel + step));
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_touch(d);
}

// add: 0 for the first piece of a tile.
__device__ __forceinline__ void multiply(const Params& params, const Ring& ring, int slot, int add,
                                         float (&d)[4]) {
  const WgmmaRows w(smem_address(ring.w(slot)), static_cast<uint32_t>(params.panels * kUnitBytes));
  const WgmmaRows x(smem_address(ring.x(slot)), kUnitBytes);
  switch (params.panels) {
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

// Lane 4g + t of warp w has of a tile rows 16w + g (d[0], d[1]) and 16w + 8 + g (d[2], d[3]), of tokens 2t
// and 2t + 1.
__device__ __forceinline__ void finish(const Params& params, const float (&d)[4], int first_unit, int units) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int unit = 2 * warp + i / 2;
    const int token = 2 * (lane % 4) + i % 2;
    if (unit >= units || token >= params.m) continue;
    const int column = (first_unit + unit) * kUnitRows + lane / 4;
    const int64_t at = int64_t{token} * params.n + column;
    float added = params.bias != nullptr ? bf16_to_float(__ldg(params.bias + column)) : 0.0F;
    if (params.residual != nullptr) added += bf16_to_float(__ldcg(params.residual + at));
    params.out[at] = float_to_bf16(d[i] + added);
  }
}

__device__ void consume(const Params& params, const Ring& ring) {
  grid_dependency_wait();
  const Share share(params);
  RingCursor<kStages> at;
  float d[4];
  for (int tile = 0; tile < share.tiles; ++tile) {
    for (int piece = 0; piece < params.tile_pieces; ++piece, at.advance()) {
      mbarrier_wait(&ring.full[at.slot], at.phase);
      multiply(params, ring, at.slot, piece, d);
      if (threadIdx.x % 32 == 0) mbarrier_arrive(&ring.empty[at.slot]);
    }
    const int begin = share.tile_begin(tile);
    finish(params, d, begin, share.tile_begin(tile + 1) - begin);
  }
}

__global__ void __launch_bounds__(kThreads, 1) skinny_link_kernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kStages];
  __shared__ uint64_t empty[kStages];
  // The swizzle counts from a multiple of 1024.
  const Ring ring{memory + ((1024 - smem_address(memory) % 1024) % 1024), full, empty};
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    prefetch_tensor_map(&params.w_map);
    prefetch_tensor_map(&params.x_map);
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&full[i], 2);
      mbarrier_init(&empty[i], kConsumers / 32);  // warps: one may lag behind another's product
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (thread < kConsumers) {
    consume(params, ring);
  } else if (thread == kConsumers) {
    copy_w(params, ring);
  } else if (thread == kConsumers + 32) {
    copy_x(params, ring);
  }
}

}  // namespace

Status run_skinny_link(const LinearArgs& args, int num_sms, const LaunchOptions& launch) {
  if (args.m < 1 || args.m > kLinkMaxM || args.n <= 0 || args.n % kUnitRows != 0 || args.k <= 0 ||
      args.k % kPanel != 0 || args.out_dtype != DType::bf16) {
    return unsupported("the uncut product of few rows doesn't serve this shape");
  }
  Params params{};
  const int panels = args.k / kPanel;
  const int64_t row_bytes = int64_t{args.k} * 2;
  params.units = args.n / kUnitRows;
  // No more CTAs than the largest share needs: who has less would take bandwidth from those who end last.
  const int most = ceil_div(params.units, num_sms);
  const int ctas = ceil_div(params.units, most);
  int tile_units = 1;  // of the largest tile that any CTA has
  for (const int units : {most, std::max(1, most - 1)}) {
    tile_units = std::max(tile_units, ceil_div(units, ceil_div(units, kTileUnits)));
  }
  params.panels = std::min({kMaxPanels, kWBytes / kUnitBytes / tile_units, panels});
  params.tile_pieces = ceil_div(panels, params.panels);
  params.m = args.m;
  params.n = args.n;
  params.bias = args.bias;
  params.residual = args.residual;
  params.out = static_cast<uint16_t*>(args.out);
  const std::array<TensorMapDim, 3> x_dims = {
      {{kPanel, 0, kPanel}, {args.m, row_bytes, kTokens}, {panels, kPanel * 2, params.panels}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(args.x, x_dims, &params.x_map));
  const std::array<TensorMapDim, 4> w_dims = {{{kPanel, 0, kPanel},
                                               {kUnitRows, row_bytes, kUnitRows},
                                               {panels, kPanel * 2, params.panels},
                                               {params.units, kUnitRows * row_bytes, 1}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(args.w, w_dims, &params.w_map));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(skinny_link_kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
                "shared memory of the uncut product"));
  return launch_kernel(skinny_link_kernel, dim3(static_cast<unsigned>(ctas)), kThreads, kSharedBytes, launch,
                       "the uncut product of few rows", params);
}

}  // namespace bifocal::kernels::cuda
