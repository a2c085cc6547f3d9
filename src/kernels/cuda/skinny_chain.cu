// A warp copies W, a warp copies x, a warp computes the norms' factors, eight warps multiply. Copies of W
// wait for room and nothing else: they start before the kernel ahead has ended, and run on into the next
// link. So do the warps that multiply: they take W into their registers before its x is there.
#include "kernels/cuda/skinny_chain.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "base/int_math.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_chain_finish.h"
#include "kernels/cuda/skinny_chain_link.h"
#include "kernels/cuda/tensor_maps.h"

namespace bifocal::kernels::cuda {
namespace chain {
namespace {

constexpr int kThreads = kConsumers + 128;
constexpr int kSharedBytes = kRingBytes + kSwizzleBytes;
constexpr int kBlocks = kTileRows / 16;
constexpr int kSteps = kPanel / 16;
constexpr int kPairs = kMultipliers / 2;
constexpr int kWarpPanels = kPiecePanels / 2;
// Otherwise a pair would come to a slot whose last piece was another pair's, and whose phase it doesn't know.
static_assert(kWSlots % kPairs == 0 && kXSlots % kPairs == 0);

struct Shared {
  uint64_t w_full[kWSlots];
  uint64_t w_empty[kWSlots];
  uint64_t x_full[kXSlots];
  uint64_t x_empty[kXSlots];
  uint64_t scales_known[kMaxLinks];  // of a link, once
  int w_at[kWSlots];
  int w_room[kWSlots];
  FinishShared finish;
};
static_assert(kSharedBytes + sizeof(Shared) <= 227 * 1024, "an SM's shared memory");

__device__ int cta() {
  return static_cast<int>(blockIdx.x);
}
__device__ int num_ctas() {
  return static_cast<int>(gridDim.x);
}

// Where row `row` of a swizzled array has its 16-byte chunk `chunk`.
__device__ __forceinline__ uint32_t chunk_address(uint32_t base, int row, int chunk) {
  return base + static_cast<uint32_t>(row * kPanelBytes + ((chunk ^ (row % 8)) * 16));
}

// Until all of link `which` is in memory.
__device__ void wait_for_link(const Params& params, int which) {
  const int ctas = min(num_ctas(), params.links[which].num_tiles);
  while (load_acquire(params.finished + which) < ctas) {
  }
}

__device__ void copy_w(const Params& params, const Rings& rings) {
  RingCursor<kWSlots> next;
  RingCursor<kWSlots> oldest;
  int slots = 0;
  int used = 0;
  int at = 0;
  for (int which = 0; which < params.num_links; ++which) {
    const Link& link = params.links[which];
    for (int index = cta(); index < link.num_tiles; index += num_ctas()) {
      const Tile tile(link, index);
      const int bytes = tile.rows * kRowBytes;
      for (int piece = 0; piece < link.pieces; ++piece, next.advance(), at += bytes) {
        const bool wraps = at + bytes > params.w_bytes;
        const int room = wraps ? params.w_bytes - at + bytes : bytes;
        for (; slots == kWSlots || used + room > params.w_bytes; --slots, oldest.advance()) {
          mbarrier_wait(&rings.w_empty[oldest.slot], oldest.phase);
          used -= rings.w_room[oldest.slot];
        }
        if (wraps) at = 0;
        used += room;
        ++slots;
        rings.w_at[next.slot] = at;
        rings.w_room[next.slot] = room;
        mbarrier_expect(&rings.w_full[next.slot], static_cast<uint32_t>(bytes));
        load_tensor_4d(rings.w + at, &tile.tiles->w_map, &rings.w_full[next.slot], 0, tile.column, 0,
                       piece * kPiecePanels, kEvictFirst);
      }
    }
  }
}

__device__ void copy_x(const Params& params, const Rings& rings) {
  const int bytes = params.m * kRowBytes;
  RingCursor<kXSlots> at;
  for (int which = 0; which < params.num_links; ++which) {
    const Link& link = params.links[which];
    if (which == 0) {
      grid_dependency_wait();
    } else {
      wait_for_link(params, which - 1);
      async_proxy_fence_global();
    }
    for (int index = cta(); index < link.num_tiles; index += num_ctas()) {
      for (int piece = 0; piece < link.pieces; ++piece, at.advance()) {
        mbarrier_wait(&rings.x_empty[at.slot], at.phase ^ 1);
        mbarrier_expect(&rings.x_full[at.slot], static_cast<uint32_t>(bytes));
        load_tensor_3d(rings.x + at.slot * bytes, &link.x_map, &rings.x_full[at.slot], 0, 0,
                       piece * kPiecePanels, kEvictLast);
      }
    }
  }
}

// One over the root mean square of each token's row, in one order whatever M is. Who reads them is done when
// the next are computed: these wait for a link that comes later.
__device__ void compute_scales(const Params& params, Shared& shared) {
  grid_dependency_wait();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int which = 1; which < params.num_links; ++which) {
    if (lane == 0) wait_for_link(params, which - 1);
    __syncwarp();
    const Link& ahead = params.links[which - 1];
    if (ahead.norm == nullptr) continue;
    float sums[kTokens] = {};
    for (int tile = lane; tile < ahead.num_tiles; tile += 32) {
      const auto* squares = reinterpret_cast<const float4*>(params.squares + tile * kTokens);
      const float4 low = __ldcg(squares);
      const float4 high = __ldcg(squares + 1);
      const float all[kTokens] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int token = 0; token < kTokens; ++token) sums[token] += all[token];
    }
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
      const float mean = warp_sum(sums[token]) / static_cast<float>(ahead.n);
      if (lane == token) shared.finish.scales[token] = rsqrtf(mean + params.norm_eps);
    }
    mbarrier_arrive(&shared.scales_known[which]);
  }
}

// The last warp that waits for no other CTA makes the counters ready for the next chain.
__device__ void leave(const Params& params) {
  if (params.num_links == 1) return;
  if (atomicAdd(params.left, 1) != 2 * num_ctas() - 1) return;
  __threadfence();
  for (int which = 0; which < params.num_links; ++which) params.finished[which] = 0;
  *params.left = 0;
}

// A warp's panels of a piece of W, as fragments. What a tile lacks of kTileRows is its last row again, and
// dropped in the end.
using Fragments = uint32_t[kWarpPanels][kBlocks][kSteps][4];

__device__ __forceinline__ void load_w(const uint8_t* piece, int rows, int first_panel, Fragments& w) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t base = smem_address(piece);
#pragma unroll
  for (int panel = 0; panel < kWarpPanels; ++panel) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int row = (first_panel + panel) * rows + min(block * 16 + lane % 16, rows - 1);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        ldmatrix_x4(w[panel][block][step], chunk_address(base, row, step * 2 + lane / 16));
      }
    }
  }
}

__device__ __forceinline__ void multiply(const Fragments& w, const uint8_t* x_piece, int m, int first_panel,
                                         float (&d)[2][kBlocks][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t base = smem_address(x_piece);
#pragma unroll
  for (int panel = 0; panel < kWarpPanels; ++panel) {
    const int row = (first_panel + panel) * m + min(lane % 8, m - 1);
    uint32_t x[kSteps / 2][4];
#pragma unroll
    for (int i = 0; i < kSteps / 2; ++i) ldmatrix_x4(x[i], chunk_address(base, row, i * 4 + lane / 8));
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        mma_16x8x16(d[step % 2][block], w[panel][block][step], x[step / 2][step % 2 * 2],
                    x[step / 2][step % 2 * 2 + 1]);
      }
    }
  }
}

// Pairs of warps take pieces in turn, each warp half of a piece's panels. A warp takes its W into registers
// as soon as it is there, which makes room in the ring while x is awaited.
__device__ void consume(const Params& params, const Rings& rings, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const bool first_lane = threadIdx.x % 32 == 0;
  const int first_panel = warp % 2 * kWarpPanels;
  const int m = params.m;
  uint32_t ordinal = 0;  // of the tile's first piece, among all of this CTA
  int turn = 0;          // of tiles
  for (int which = 0; which < params.num_links; ++which) {
    const Link& link = params.links[which];
    const bool scaled = which > 0 && params.links[which - 1].norm != nullptr;
    Finisher finisher(params, link, shared.finish);
    for (int index = cta(); index < link.num_tiles; index += num_ctas()) {
      const Tile tile(link, index);
      float d[2][kBlocks][4] = {};  // of even and odd steps: two chains of sums are twice as fast as one
      for (int piece = warp / 2; piece < link.pieces; piece += kPairs) {
        const uint32_t at = ordinal + static_cast<uint32_t>(piece);
        const uint32_t w_slot = at % kWSlots;
        Fragments w;
        mbarrier_wait(&rings.w_full[w_slot], at / kWSlots % 2);
        load_w(rings.w + rings.w_at[w_slot], tile.rows, first_panel, w);
        mbarrier_arrive(&rings.w_empty[w_slot]);  // every lane, for it has read where the piece lies
        if (which == 0) grid_dependency_wait();   // for what the sums of the first link meet
        const uint32_t x_slot = at % kXSlots;
        mbarrier_wait(&rings.x_full[x_slot], at / kXSlots % 2);
        if (piece < kPairs) finisher.prefetch(tile);
        multiply(w, rings.x + static_cast<int>(x_slot) * m * kRowBytes, m, first_panel, d);
        __syncwarp();
        if (first_lane) mbarrier_arrive(&rings.x_empty[x_slot]);
      }
      ordinal += static_cast<uint32_t>(link.pieces);
      if (scaled) mbarrier_wait(&shared.scales_known[which], 0);
      finisher.finish(d, tile, index, turn, scaled, warp / 2 >= link.pieces);
      turn ^= 1;
    }
    if (which + 1 < params.num_links && cta() < link.num_tiles) finisher.announce(params.finished + which);
  }
}

__global__ void __launch_bounds__(kThreads, 1) skinny_chain_kernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t memory[];
  __shared__ Shared shared;
  Rings rings;
  rings.w = memory + ((kSwizzleBytes - smem_address(memory) % kSwizzleBytes) % kSwizzleBytes);
  rings.x = rings.w + params.w_bytes;
  rings.w_at = shared.w_at;
  rings.w_room = shared.w_room;
  rings.w_full = shared.w_full;
  rings.w_empty = shared.w_empty;
  rings.x_full = shared.x_full;
  rings.x_empty = shared.x_empty;
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < params.num_links) {
    const Link& link = params.links[thread];
    prefetch_tensor_map(&link.tiles[0].w_map);
    prefetch_tensor_map(&link.tiles[1].w_map);
    prefetch_tensor_map(&link.x_map);
  }
  if (thread == 0) {
    for (int i = 0; i < kWSlots; ++i) {
      mbarrier_init(&rings.w_full[i], 1);
      mbarrier_init(&rings.w_empty[i], 2 * 32);
    }
    for (int i = 0; i < kXSlots; ++i) {
      mbarrier_init(&rings.x_full[i], 1);
      mbarrier_init(&rings.x_empty[i], 2);
    }
    for (int i = 0; i < kMaxLinks; ++i) mbarrier_init(&shared.scales_known[i], 32);
    mbarrier_init_fence();
  }
  __syncthreads();
  const int warp = thread / 32;
  if (warp < kMultipliers) {
    take_registers<224>();
    consume(params, rings, shared);
    return;
  }
  give_registers<56>();
  if (warp == kMultipliers + 2) {
    compute_scales(params, shared);
    if (thread % 32 == 0) leave(params);
  } else if (thread == kConsumers) {
    copy_w(params, rings);
  } else if (thread == kConsumers + 32) {
    copy_x(params, rings);
    leave(params);
  }
}

constexpr int64_t kCounterBytes = 128;
constexpr int kMaxNormed = 16384;  // columns before a norm

Status set_link(const LinearLink& from, int m, int num_sms, Link* link) {
  const int64_t row_bytes = int64_t{from.k} * 2;
  const int panels = ceil_div(from.k, kPanel);
  link->halves = from.gated ? 2 : 1;
  link->pieces = ceil_div(panels, kPiecePanels);
  link->n = from.n;
  link->bias = from.bias;
  link->residual = from.residual;
  link->out = from.out;
  link->norm = from.norm;
  link->normed = from.normed;
  // Equal shares but for a column. With fewer columns than CTAs, a column each.
  const int share = ceil_div(from.n, num_sms);
  link->num_tiles = std::min(from.n, ceil_div(share * link->halves, kTileRows) * num_sms);
  const int columns = from.n / link->num_tiles;
  link->num_large = from.n % link->num_tiles;
  for (const int size : {0, 1}) {
    Tiles& tiles = link->tiles[size];
    tiles.columns = size == 0 && link->num_large > 0 ? columns + 1 : columns;
    tiles.first_column = size == 0 ? 0 : link->num_large * (columns + 1);
    const std::array<TensorMapDim, 4> dims = {{{kPanel, 0, kPanel},
                                               {from.n, row_bytes, tiles.columns},
                                               {link->halves, from.n * row_bytes, link->halves},
                                               {panels, kPanelBytes, kPiecePanels}}};
    BIFOCAL_RETURN_IF_ERROR(make_tensor_map(from.w, dims, &tiles.w_map));
  }
  const std::array<TensorMapDim, 3> dims = {
      {{kPanel, 0, kPanel}, {m, row_bytes, m}, {panels, kPanelBytes, kPiecePanels}}};
  return make_tensor_map(from.x, dims, &link->x_map);
}

}  // namespace
}  // namespace chain

bool skinny_chain_serves(const LinearChain& chain) {
  const auto links = chain.view();
  if (chain.m < 1 || chain.m > kChainMaxM || links.empty()) return false;
  for (size_t i = 0; i < links.size(); ++i) {
    const LinearLink& link = links[i];
    if (link.n <= 0 || link.k <= 0 || link.k % chain::kPanel != 0) return false;
    if (link.norm == nullptr) continue;
    const bool read = i + 1 < links.size() && links[i + 1].x == link.normed && links[i + 1].k == link.n;
    if (!read || link.gated || link.n > chain::kMaxNormed) return false;
  }
  return true;
}

int64_t skinny_chain_workspace_bytes(int num_sms) {
  // Tiles of a link that a norm follows, at most (set_link).
  const int64_t tiles = chain::kMaxNormed / chain::kTileRows + 2 * int64_t{num_sms};
  return chain::kCounterBytes + tiles * chain::kTokens * int64_t{sizeof(float)};
}

Status run_skinny_chain(const LinearChain& links, void* workspace, int num_sms, const LaunchOptions& launch) {
  if (!skinny_chain_serves(links)) return unsupported("the skinny chain doesn't serve these products");
  chain::Params params{};
  params.m = links.m;
  params.norm_eps = links.norm_eps;
  params.w_bytes = chain::kRingBytes - chain::kXSlots * links.m * chain::kRowBytes;
  for (const LinearLink& from : links.view()) {
    BIFOCAL_RETURN_IF_ERROR(chain::set_link(from, links.m, num_sms, &params.links[params.num_links++]));
  }
  params.finished = static_cast<int*>(workspace);
  params.left = params.finished + chain::kMaxLinks;
  params.squares = reinterpret_cast<float*>(static_cast<std::byte*>(workspace) + chain::kCounterBytes);
  const auto kernel = chain::skinny_chain_kernel;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, chain::kSharedBytes),
                "shared memory of the skinny chain"));
  return launch_kernel(kernel, dim3(static_cast<unsigned>(num_sms)), chain::kThreads, chain::kSharedBytes,
                       launch, "the skinny chain", params);
}

}  // namespace bifocal::kernels::cuda
