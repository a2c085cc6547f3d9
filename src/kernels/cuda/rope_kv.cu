// A warp for each head of a token: load, bias, norm, rotate through shared memory, store. The blocks of a
// token each compute its cosines and sines anew, which is less work than a table's traffic.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/bf16_rows.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kWarps = 8;

template <int kCount>
struct alignas(2 * kCount) Bf16Vector {
  uint16_t v[kCount];
};

// cos and sin of position * inv_freq: whole turns are taken off in double.
__device__ void angle(int position, float inv_freq, float* cosine, float* sine) {
  constexpr double kInversePi = 0.318309886183790671538;
  const double half_turns = static_cast<double>(position) * static_cast<double>(inv_freq) * kInversePi;
  sincospif(static_cast<float>(half_turns - 2.0 * rint(half_turns * 0.5)), sine, cosine);
}

template <int kD>
__global__ void __launch_bounds__(kWarps * 32) rope_kv_kernel(const RopeKv args) {
  constexpr int kPer = kD / 32;  // values of a lane
  using Vector = Bf16Vector<kPer>;
  __shared__ float cosines[kD / 2];
  __shared__ float sines[kD / 2];
  __shared__ float heads[kWarps][kD];
  launch_dependents();
  grid_dependency_wait();

  const int token = static_cast<int>(blockIdx.x);
  const int pairs = args.rotary_dim / 2;
  if (static_cast<int>(threadIdx.x) < pairs) {
    const int j = static_cast<int>(threadIdx.x);
    float cosine = 0.0F;
    float sine = 0.0F;
    angle(args.positions[token], args.inv_freq[j], &cosine, &sine);
    cosines[j] = cosine * args.attention_factor;
    sines[j] = sine * args.attention_factor;
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(threadIdx.x) % 32 * kPer;
  const int all_heads = args.num_heads + 2 * args.num_kv_heads;
  for (int head = static_cast<int>(blockIdx.y) * kWarps + warp; head < all_heads;
       head += static_cast<int>(gridDim.y) * kWarps) {
    const bool is_q = head < args.num_heads;
    const bool is_v = head >= args.num_heads + args.num_kv_heads;
    const int64_t slot = is_q ? 0 : args.kv_slots[token];
    if (slot < 0) continue;

    float x[kPer];
    const auto in =
        *reinterpret_cast<const Vector*>(args.qkv + (int64_t{token} * all_heads + head) * kD + first);
#pragma unroll
    for (int e = 0; e < kPer; ++e) x[e] = bf16_to_float(in.v[e]);
    if (args.bias != nullptr) {
      const auto bias = *reinterpret_cast<const Vector*>(args.bias + head * kD + first);
#pragma unroll
      for (int e = 0; e < kPer; ++e) x[e] += bf16_to_float(bias.v[e]);
    }
    const uint16_t* norm = is_v ? nullptr : is_q ? args.q_norm : args.k_norm;
    if (norm != nullptr) {
      float sum = 0.0F;
#pragma unroll
      for (int e = 0; e < kPer; ++e) sum += x[e] * x[e];
      const float scale = rsqrtf(warp_sum(sum) / static_cast<float>(kD) + args.norm_eps);
      const auto weight = *reinterpret_cast<const Vector*>(norm + first);
#pragma unroll
      for (int e = 0; e < kPer; ++e) x[e] *= scale * bf16_to_float(weight.v[e]);
    }
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
        x[e] = x[e] * cosines[pair] + (second ? partner : -partner) * sines[pair];
      }
    }
    Vector out;
#pragma unroll
    for (int e = 0; e < kPer; ++e) out.v[e] = float_to_bf16(x[e]);
    uint16_t* to = args.q + (int64_t{token} * args.num_heads + head) * kD;
    if (!is_q) {
      const int kv_head = (head - args.num_heads) % args.num_kv_heads;
      to = (is_v ? args.v : args.k) +
           ((slot / args.page_size * args.num_kv_heads + kv_head) * args.page_size + slot % args.page_size) *
               kD;
    }
    *reinterpret_cast<Vector*>(to + first) = out;
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
