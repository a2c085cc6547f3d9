// One warp copies, a warpgroup multiplies. The copies of W start before the kernel ahead has ended.
#include "kernels/cuda/skinny_gemm.h"

#include <cuda_runtime.h>

#include <array>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_cursor.h"
#include "kernels/cuda/tensor_maps.h"
#include "kernels/cuda/wgmma.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kPanel = 64;     // columns: 128 bytes, the width of the swizzle
constexpr int kGroupRows = 8;  // after so many rows the swizzle repeats
constexpr int kGroupBytes = kGroupRows * kPanel * 2;
constexpr int kRows = 64;   // of W in a tile
constexpr int kPanels = 4;  // of a piece: long runs along K favour memory
constexpr int kWarpgroups = kRows / 64;
constexpr int kMaxCounters = 1 << 14;

enum class Result { bf16, f32, gated };

// A piece is kRows rows of W by kPanels panels, as groups of rows, of each group one panel after the other,
// and the same panels of all of x.
template <int kTokensOf>
struct Shape {
  static constexpr int kTokens = kTokensOf;
  static constexpr int kConsumers = kWarpgroups * 128;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kWBytes = kRows * kPanels * kPanel * 2;
  static constexpr int kXPanelBytes = kTokens * kPanel * 2;
  static constexpr int kStageBytes = kWBytes + kPanels * kXPanelBytes;
  static constexpr int kStages = 222 * 1024 / kStageBytes;
  static constexpr int kBytes = kStages * (kStageBytes + 16) + 1024;
};

struct SkinnyParams {
  CUtensorMap w_map;
  CUtensorMap x_map;
  int64_t num_pieces;  // of W
  int tile_groups;     // what the groups' coordinate moves on by from tile to tile
  int tile_pieces;     // of a tile, along K
  int m;
  int n;  // columns of the result
  const uint16_t* bias;
  const uint16_t* residual;
  void* out;
  int* counters;  // [tiles][kWarpgroups] parts that have arrived
  float4* parts;  // [CTAs][2][kWarpgroups][kTokens / 8][128]
};

// Pieces [begin, end) of all, in order of tiles and then of K.
struct Run {
  int64_t begin;
  int64_t end;
};
__device__ Run run_of(const SkinnyParams& params, int cta) {
  return {cta * params.num_pieces / gridDim.x, (cta + 1) * params.num_pieces / gridDim.x};
}
__device__ int cta_of(const SkinnyParams& params, int64_t piece) {
  return static_cast<int>(((piece + 1) * gridDim.x - 1) / params.num_pieces);
}

template <class S>
struct Ring {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;

  __device__ uint8_t* w(int slot) const { return stages + slot * S::kStageBytes; }
  __device__ uint8_t* x(int slot) const { return w(slot) + S::kWBytes; }
};

template <class S>
__device__ void produce(const SkinnyParams& params, const Ring<S>& ring) {
  const Run run = run_of(params, static_cast<int>(blockIdx.x));
  const auto load_w = [&](int64_t piece, int slot) {
    const int tile = static_cast<int>(piece / params.tile_pieces);
    const int panel = static_cast<int>(piece % params.tile_pieces) * kPanels;
    mbarrier_expect(&ring.full[slot], S::kStageBytes);
    load_tensor_5d(ring.w(slot), &params.w_map, &ring.full[slot], 0, 0, panel, 0, tile * params.tile_groups,
                   kEvictFirst);
  };
  const auto load_x = [&](int64_t piece, int slot) {
    const int panel = static_cast<int>(piece % params.tile_pieces) * kPanels;
    load_tensor_3d(ring.x(slot), &params.x_map, &ring.full[slot], 0, 0, panel, kEvictLast);
  };
  const int ahead = static_cast<int>(min(int64_t{S::kStages}, run.end - run.begin));
  for (int i = 0; i < ahead; ++i) load_w(run.begin + i, i);
  grid_dependency_wait();
  for (int i = 0; i < ahead; ++i) load_x(run.begin + i, i);
  RingCursor<S::kStages> at;
  for (int64_t piece = run.begin + ahead; piece < run.end; ++piece, at.advance()) {
    mbarrier_wait(&ring.empty[at.slot], at.phase);
    load_w(piece, at.slot);
    load_x(piece, at.slot);
  }
}

// What a warpgroup does with its 64 rows of a tile.
template <class S, Result kResult>
class Finisher {
 public:
  static constexpr int kTokens = S::kTokens;
  static constexpr int kValues = kTokens / 2;  // of a thread

  __device__ Finisher(const SkinnyParams& params, int* last) : params_(params), last_(last) {}

  // A tile of which this CTA has computed pieces [first, first + count).
  __device__ void finish(float (&d)[kValues], int tile, int first, int count) {
    if (count < params_.tile_pieces && !fold(d, tile, first)) return;
    store(d, tile);
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x) % 128; }
  __device__ static int warpgroup() { return static_cast<int>(threadIdx.x) / 128; }

  __device__ float4* part(int cta, int which) const {
    return params_.parts + ((int64_t{cta} * 2 + which) * kWarpgroups + warpgroup()) * (kValues / 4) * 128 +
           thread();
  }

  // Leaves this CTA's part of a tile. True for the last to do so, which then has the sum of all.
  __device__ bool fold(float (&d)[kValues], int tile, int first) {
    const int64_t begin = int64_t{tile} * params_.tile_pieces;
    const int first_cta = cta_of(params_, begin);
    const int last_cta = cta_of(params_, begin + params_.tile_pieces - 1);
    // A CTA leaves at most two parts: the end of one tile and the beginning of another.
    float4* mine = part(static_cast<int>(blockIdx.x), first == 0 ? 1 : 0);
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      __stcg(mine + i * 128, float4{d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]});
    }
    __threadfence();
    const uint32_t barrier = 1 + static_cast<uint32_t>(warpgroup());
    named_barrier_sync(barrier, 128);
    if (thread() == 0) {
      int* counter = params_.counters + tile * kWarpgroups + warpgroup();
      const bool last = atomicAdd(counter, 1) == last_cta - first_cta;
      if (last) *counter = 0;  // ready for the next product
      last_[warpgroup()] = last ? 1 : 0;
    }
    named_barrier_sync(barrier, 128);
    if (last_[warpgroup()] == 0) return false;
    __threadfence();
#pragma unroll
    for (int i = 0; i < kValues; ++i) d[i] = 0.0F;
    for (int cta = first_cta; cta <= last_cta; ++cta) {
      const float4* theirs = part(cta, cta == first_cta ? 1 : 0);
#pragma unroll
      for (int i = 0; i < kValues / 4; ++i) {
        const float4 p = __ldcg(theirs + i * 128);
        d[4 * i] += p.x;
        d[4 * i + 1] += p.y;
        d[4 * i + 2] += p.z;
        d[4 * i + 3] += p.w;
      }
    }
    return true;
  }

  // Of eight tokens: d[0], d[1] are row g's of tokens 2t and 2t + 1, d[2], d[3] row g + 8's.
  __device__ void store(const float (&d)[kValues], int tile) {
    const int lane = thread() % 32;
    const int g = lane / 4;
    const int t = lane % 4;
    const int base =
        (tile * kRows + warpgroup() * 64 + thread() / 32 * 16) / (kResult == Result::gated ? 2 : 1);
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
      const int token = 8 * j + 2 * t;
      if constexpr (kResult == Result::f32) {
        store_f32(base + g, token, d[4 * j], d[4 * j + 1]);
        store_f32(base + g + 8, token, d[4 * j + 2], d[4 * j + 3]);
      } else if constexpr (kResult == Result::gated) {
        const int row = base + g;
        const float gate_bias = params_.bias != nullptr && row < params_.n ? bias(row) : 0.0F;
        const float up_bias = params_.bias != nullptr && row < params_.n ? bias(params_.n + row) : 0.0F;
        store_transposed(base, 8 * j, silu(d[4 * j] + gate_bias) * (d[4 * j + 2] + up_bias),
                         silu(d[4 * j + 1] + gate_bias) * (d[4 * j + 3] + up_bias));
      } else {
        store_transposed(base, 8 * j, added(base + g, token, d[4 * j]),
                         added(base + g, token + 1, d[4 * j + 1]));
        store_transposed(base + 8, 8 * j, added(base + g + 8, token, d[4 * j + 2]),
                         added(base + g + 8, token + 1, d[4 * j + 3]));
      }
    }
  }

  __device__ float bias(int row) const {
    return bf16_to_float(__ldg(params_.bias + row));
  }

  __device__ float added(int row, int token, float x) const {
    if (row >= params_.n || token >= params_.m) return 0.0F;
    if (params_.bias != nullptr) x += bias(row);
    if (params_.residual != nullptr) x += bf16_to_float(params_.residual[int64_t{token} * params_.n + row]);
    return x;
  }

  __device__ void store_f32(int row, int token, float a, float b) const {
    auto* out = static_cast<float*>(params_.out) + int64_t{token} * params_.n + row;
    if (row >= params_.n) return;
    if (token < params_.m) out[0] = a;
    if (token + 1 < params_.m) out[params_.n] = b;
  }

  // Eight rows by eight tokens, of which this lane has row lane/4 of tokens 2(lane%4) and the next; turned
  // around so that neighbouring rows are stored together.
  __device__ void store_transposed(int row, int token, float a, float b) const {
    const uint32_t pair = movmatrix_trans(pack_bf16(a, b));
    const int lane = thread() % 32;
    row += lane % 4 * 2;
    token += lane / 4;
    if (token >= params_.m || row >= params_.n) return;
    auto* out = static_cast<uint16_t*>(params_.out) + int64_t{token} * params_.n + row;
    if (row + 1 < params_.n && params_.n % 2 == 0) {
      *reinterpret_cast<uint32_t*>(out) = pair;
      return;
    }
    out[0] = static_cast<uint16_t>(pair);
    if (row + 1 < params_.n) out[1] = static_cast<uint16_t>(pair >> 16);
  }

  const SkinnyParams& params_;
  int* last_;
};

template <class S, Result kResult>
__device__ void consume(const SkinnyParams& params, const Ring<S>& ring, int* last) {
  constexpr int kValues = S::kTokens / 2;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const Run run = run_of(params, static_cast<int>(blockIdx.x));
  Finisher<S, kResult> finisher(params, last);
  grid_dependency_wait();  // what is added to the result
  float d[kValues];
  RingCursor<S::kStages> at;
  int64_t piece = run.begin;
  while (piece < run.end) {
    const int tile = static_cast<int>(piece / params.tile_pieces);
    const int first = static_cast<int>(piece % params.tile_pieces);
    const int count = static_cast<int>(min(run.end - piece, int64_t{params.tile_pieces - first}));
    for (int i = 0; i < count; ++i, at.advance()) {
      mbarrier_wait(&ring.full[at.slot], at.phase);
      wgmma_touch(d);
      wgmma_fence();
      const WgmmaMatrix<kPanels * kGroupBytes, 0> w(
          smem_address(ring.w(at.slot)) + static_cast<uint32_t>(warpgroup) * (S::kWBytes / kWarpgroups));
      const WgmmaMatrix<kGroupBytes, 0> x(smem_address(ring.x(at.slot)));
#pragma unroll
      for (uint32_t panel = 0; panel < kPanels; ++panel) {
#pragma unroll
        for (uint32_t step = 0; step < kPanel / 16; ++step) {
          wgmma_shared<S::kTokens>(d, w.plus(panel * kGroupBytes + step * 32),
                                   x.plus(panel * S::kXPanelBytes + step * 32),
                                   i > 0 || panel > 0 || step > 0);
        }
      }
      wgmma_commit();
      wgmma_wait<0>();
      if (threadIdx.x % 128 == 0) mbarrier_arrive(&ring.empty[at.slot]);
    }
    wgmma_touch(d);
    finisher.finish(d, tile, first, count);
    piece += count;
  }
}

template <class S, Result kResult>
__global__ void __launch_bounds__(S::kThreads, 1) skinny_kernel(const __grid_constant__ SkinnyParams params) {
  extern __shared__ uint8_t memory[];
  __shared__ int last[kWarpgroups];
  const uint32_t start = smem_address(memory);
  Ring<S> ring;
  ring.stages = memory + ((1024 - start % 1024) % 1024);  // the swizzle counts from multiples of 1,024
  ring.full = reinterpret_cast<uint64_t*>(ring.stages + S::kStages * S::kStageBytes);
  ring.empty = ring.full + S::kStages;
  launch_dependents();
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&params.w_map);
    prefetch_tensor_map(&params.x_map);
    for (int i = 0; i < S::kStages; ++i) {
      mbarrier_init(&ring.full[i], 1);
      mbarrier_init(&ring.empty[i], kWarpgroups);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < S::kConsumers) {
    consume<S, kResult>(params, ring, last);
  } else if (threadIdx.x == S::kConsumers) {
    produce<S>(params, ring);
  }
}

// W as the copies see it: groups of rows of each of `halves` parts of W, which stand in turns in a tile.
struct Weights {
  const uint16_t* w;
  int rows;
  int halves;
};

template <class S, Result kResult>
Status launch_skinny(SkinnyParams params, const LinearArgs& args, const Weights& weights, int num_sms,
                     const LaunchOptions& launch) {
  static_assert(S::kBytes <= 227 * 1024, "an SM's shared memory");
  const int panels = args.k / kPanel;
  const int64_t row_bytes = int64_t{args.k} * 2;
  const std::array<TensorMapDim, 3> x_dims = {
      {{kPanel, 0, kPanel}, {args.m, row_bytes, S::kTokens}, {panels, kPanel * 2, kPanels}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(args.x, x_dims, &params.x_map));
  const int half_rows = weights.rows / weights.halves;
  params.tile_groups = kRows / kGroupRows / weights.halves;
  const std::array<TensorMapDim, 5> w_dims = {
      {{kPanel, 0, kPanel},
       {kGroupRows, row_bytes, kGroupRows},
       {panels, kPanel * 2, kPanels},
       {weights.halves, half_rows * row_bytes, weights.halves},
       {half_rows / kGroupRows, kGroupRows * row_bytes, params.tile_groups}}};
  BIFOCAL_RETURN_IF_ERROR(make_tensor_map(weights.w, w_dims, &params.w_map));
  params.tile_pieces = (panels + kPanels - 1) / kPanels;
  params.num_pieces = int64_t{(weights.rows + kRows - 1) / kRows} * params.tile_pieces;
  const auto kernel = skinny_kernel<S, kResult>;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes),
                "shared memory of the skinny product"));
  const auto ctas = static_cast<unsigned>(std::min<int64_t>(num_sms, params.num_pieces));
  return launch_kernel(kernel, dim3(ctas), S::kThreads, S::kBytes, launch, "the skinny product", params);
}

template <Result kResult>
Status launch_tokens(const LinearArgs& args, const Weights& weights, void* workspace, int num_sms,
                     const LaunchOptions& launch) {
  SkinnyParams params{};
  params.m = args.m;
  params.n = args.n;
  params.bias = args.bias;
  params.residual = args.residual;
  params.out = args.out;
  params.counters = static_cast<int*>(workspace);
  params.parts = reinterpret_cast<float4*>(params.counters + kMaxCounters);
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

bool skinny_serves(int m, int n, int k) {
  return m >= 1 && m <= kSkinnyMaxM && k > 0 && k % kPanel == 0 && n > 0 && n % kGroupRows == 0 &&
         n / 64 + 1 <= kMaxCounters;
}

bool skinny_serves_gated(int m, int inner, int k) {
  return inner % kGroupRows == 0 && skinny_serves(m, 2 * inner, k);
}

int64_t skinny_workspace_bytes(int num_sms) {
  return kMaxCounters * int64_t{sizeof(int)} +
         int64_t{num_sms} * 2 * kRows * kSkinnyMaxM * int64_t{sizeof(float)};
}

Status run_skinny(const LinearArgs& args, void* workspace, int num_sms, const LaunchOptions& launch) {
  if (!skinny_serves(args.m, args.n, args.k)) return unserved(args.m, args.n, args.k);
  const Weights weights{args.w, args.n, 1};
  return args.out_dtype == DType::f32
             ? launch_tokens<Result::f32>(args, weights, workspace, num_sms, launch)
             : launch_tokens<Result::bf16>(args, weights, workspace, num_sms, launch);
}

Status run_skinny_gated(const GatedLinearArgs& args, void* workspace, int num_sms,
                        const LaunchOptions& launch) {
  if (!skinny_serves_gated(args.m, args.inner, args.k)) return unserved(args.m, 2 * args.inner, args.k);
  LinearArgs product;
  product.x = args.x;
  product.m = args.m;
  product.n = args.inner;
  product.k = args.k;
  product.bias = args.bias;
  product.out = args.out;
  return launch_tokens<Result::gated>(product, {args.w, 2 * args.inner, 2}, workspace, num_sms, launch);
}

}  // namespace bifocal::kernels::cuda
