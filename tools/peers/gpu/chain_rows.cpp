#include <algorithm>
#include <array>
#include <cstdio>

#include "device.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_chain.h"
#include "layer_rows.h"

namespace bifocal::peers {
namespace {

using kernels::cuda::DeviceMemory;
using kernels::cuda::LaunchOptions;
using kernels::cuda::Linear;
using kernels::cuda::LinearChain;
using kernels::cuda::LinearLink;

// A dense decoder's widths.
struct Widths {
  const char* name;
  int hidden;
  int q;    // H D
  int qkv;  // (H + 2 HK) D
  int inner;
};

constexpr std::array<Widths, 2> kModels = {
    {{"32B", 5120, 8192, 10240, 25600}, {"8B", 4096, 4096, 6144, 12288}}};

// o, gate_up, down and the next layer's qkv, each call with other weights.
class Chain {
 public:
  Chain(const WeightPool& pool, const Widths& widths, int m)
      : pool_(pool),
        widths_(widths),
        attn_(rows(m, widths.q)),
        residual_(rows(m, widths.hidden)),
        normed_(rows(m, widths.hidden)),
        wide_(rows(m, 2 * widths.inner)),
        inner_(rows(m, widths.inner)),
        qkv_(rows(m, widths.qkv)),
        m_(m) {}

  size_t bytes() const {
    const auto size = [](int n) { return static_cast<size_t>(n); };
    return 2 * size(widths_.hidden) * (size(widths_.q) + 3 * size(widths_.inner) + size(widths_.qkv));
  }
  int calls() const { return static_cast<int>(std::clamp<size_t>((size_t{4} << 30) / bytes(), 4, 16)); }

  LinearChain links(int call) const {
    const uint16_t* w = pool_.data + static_cast<size_t>(call) % (pool_.bytes / bytes()) * (bytes() / 2);
    LinearChain chain;
    chain.m = m_;
    chain.norm_eps = 1e-6F;
    const auto add = [&](const DeviceMemory& x, int n, int k, bool gated, const DeviceMemory& out) {
      LinearLink& link = chain.add();
      link.x = x.as<uint16_t>();
      link.w = w;
      link.n = n;
      link.k = k;
      link.gated = gated;
      link.wide = wide_.as<uint16_t>();
      link.out = out.as<uint16_t>();
      w += size_t(gated ? 2 : 1) * size_t(n) * size_t(k);
      return &link;
    };
    const auto add_residual = [&](LinearLink* link) {
      link->residual = link->out;
      link->norm = pool_.data;
      link->normed = normed_.as<uint16_t>();
    };
    add_residual(add(attn_, widths_.hidden, widths_.q, false, residual_));
    add(normed_, widths_.inner, widths_.hidden, true, inner_);
    add_residual(add(inner_, widths_.hidden, widths_.inner, false, residual_));
    add(normed_, widths_.qkv, widths_.hidden, false, qkv_);
    return chain;
  }

 private:
  static DeviceMemory rows(int m, int columns) {
    DeviceMemory memory = allocate(static_cast<size_t>(m) * static_cast<size_t>(columns) * 2);
    fill_random(memory.as<uint16_t>(), memory.bytes() / 2, 5, 1.0F, nullptr);
    return memory;
  }

  WeightPool pool_;
  Widths widths_;
  DeviceMemory attn_, residual_, normed_, wide_, inner_, qkv_;
  int m_;
};

}  // namespace

void bench_chain(const WeightPool& pool, ColdRead& cold, int num_sms, bool quick) {
  const DeviceMemory workspace =
      allocate(static_cast<size_t>(kernels::cuda::skinny_chain_workspace_bytes(num_sms)));
  CUDA_OK(cudaMemset(workspace.as<void>(), 0, workspace.bytes()));
  kernels::cuda::LinearOptions link_by_link;  // ours or cuBLASLt's, by rule
  link_by_link.chains = false;
  Linear apart = unwrap(Linear::create(link_by_link));
  std::printf(
      "| layer | M | MB | cold read us | one kernel us | link by link us | of cold read | link by link |\n"
      "|---|---|---|---|---|---|---|---|\n");
  for (const Widths& widths : kModels) {
    for (const int m : {1, 2, 4, 8}) {
      if (quick && m != 1 && m != 4 && m != 8) continue;
      const Chain chain(pool, widths, m);
      const auto time = [&](const auto& run) {
        return time_graph(
                   chain.calls(),
                   [&](int i, cudaStream_t stream) {
                     LaunchOptions launch;
                     launch.stream = stream;
                     launch.programmatic = true;
                     unwrap(run(chain.links(i), launch));
                   },
                   5)
            .us;
      };
      const double one_us = time([&](const LinearChain& links, const LaunchOptions& launch) {
        return kernels::cuda::run_skinny_chain(links, workspace.as<void>(), num_sms, launch);
      });
      const double apart_us = time([&](const LinearChain& links, const LaunchOptions& launch) {
        return apart.run_chain(links, launch);
      });
      const double cold_us = cold.us(chain.bytes());
      std::printf("| %s | %d | %.1f | %.2f | %.2f | %.2f | %.3f | %.3f |\n", widths.name, m,
                  static_cast<double>(chain.bytes()) / 1e6, cold_us, one_us, apart_us, cold_us / one_us,
                  cold_us / apart_us);
      std::fflush(stdout);
    }
  }
  std::printf("\n");
}

}  // namespace bifocal::peers
