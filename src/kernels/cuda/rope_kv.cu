// A warp for each head of a token: load, bias, norm, rotate through shared memory, store. The blocks of a
// token each compute its cosines and sines anew, which is less work than a table's traffic.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope_head.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kWarps = 8;

template <int kD>
__global__ void __launch_bounds__(kWarps * 32) rope_kv_kernel(const RopeKv args) {
  using Lane = HeadLane<kD>;
  constexpr int kPer = Lane::kPer;
  __shared__ float cosines[kD / 2];
  __shared__ float sines[kD / 2];
  __shared__ float heads[kWarps][kD];
  launch_dependents();
  grid_dependency_wait();

  const int token = static_cast<int>(blockIdx.x);
  const int pairs = args.rotary_dim / 2;
  if (static_cast<int>(threadIdx.x) < pairs) {
    const int j = static_cast<int>(threadIdx.x);
    rope_angle(args, token, j, &cosines[j], &sines[j]);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first = Lane::first_dim();
  const int all_heads = args.num_heads + 2 * args.num_kv_heads;
  for (int head = static_cast<int>(blockIdx.y) * kWarps + warp; head < all_heads;
       head += static_cast<int>(gridDim.y) * kWarps) {
    const bool is_q = head < args.num_heads;
    const bool is_v = head >= args.num_heads + args.num_kv_heads;
    const int64_t slot = is_q ? 0 : args.kv_slots[token];
    if (slot < 0) continue;

    float x[kPer];
    Lane::unpack(Lane::load(args.qkv + (int64_t{token} * all_heads + head) * kD), x);
    Lane::add_bias(args, head, x);
    Lane::normalise(is_v ? nullptr : is_q ? args.q_norm : args.k_norm, args.norm_eps, x);
    if (!is_v) {
      __syncwarp();  // the head before has been read
#pragma unroll
      for (int e = 0; e < kPer; ++e) heads[warp][first + e] = x[e];
      __syncwarp();
#pragma unroll
      for (int e = 0; e < kPer; ++e) {
        const int d = first + e;
        if (d >= args.rotary_dim) continue;
        const bool second = args.interleaved ? d % 2 != 0 : d >= pairs;
        const int pair = args.interleaved ? d / 2 : second ? d - pairs : d;
        const float partner = heads[warp][args.interleaved ? d ^ 1 : second ? pair : d + pairs];
        x[e] = rotated(x[e], second ? partner : -partner, cosines[pair], sines[pair]);
      }
    }
    uint16_t* to = args.q + (int64_t{token} * args.num_heads + head) * kD;
    if (!is_q) {
      const int kv_head = (head - args.num_heads) % args.num_kv_heads;
      to = (is_v ? args.v : args.k) +
           ((slot / args.page_size * args.num_kv_heads + kv_head) * args.page_size + slot % args.page_size) *
               kD;
    }
    Lane::store(to, Lane::pack(x));
  }
}

}  // namespace

Status rope_kv(const RopeKv& args, const LaunchOptions& launch) {
  if (args.num_tokens == 0) return {};
  if (args.rotary_dim < 0 || args.rotary_dim % 2 != 0 || args.rotary_dim > args.head_dim) {
    return invalid_argument("rope_kv: rotary dim must be even and at most the head dim, got " +
                            std::to_string(args.rotary_dim) + " of " + std::to_string(args.head_dim));
  }
  const int heads = args.num_heads + 2 * args.num_kv_heads;
  constexpr int kBlocks = 1056;  // enough to fill the device
  const int most = (heads + kWarps - 1) / kWarps;
  const int blocks = std::clamp((kBlocks + args.num_tokens - 1) / args.num_tokens, 1, most);
  const dim3 grid(static_cast<unsigned>(args.num_tokens), static_cast<unsigned>(blocks));
  const auto run = [&](auto kernel) {
    return launch_kernel(kernel, grid, kWarps * 32, 0, launch, "rope_kv", args);
  };
  switch (args.head_dim) {
    case 64:
      return run(rope_kv_kernel<64>);
    case 128:
      return run(rope_kv_kernel<128>);
    case 256:
      return run(rope_kv_kernel<256>);
    default:
      return unsupported("rope_kv: head dim must be 64, 128 or 256, got " + std::to_string(args.head_dim));
  }
}

}  // namespace bifocal::kernels::cuda
