#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "device.h"
#include "gemm.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_gemm.h"
#include "kernels/cuda/unwritten_byte.h"
#include "layer_rows.h"

namespace bifocal::peers {
namespace {

using kernels::cuda::CublasLt;
using kernels::cuda::DeviceMemory;
using kernels::cuda::GatedLinearArgs;
using kernels::cuda::LaunchOptions;
using kernels::cuda::LinearArgs;

struct Layer {
  const char* name;
  int n;
  int k;
  bool gated;
};

constexpr std::array<Layer, 9> kLayers = {{{"32B qkv", 10240, 5120, false},
                                           {"32B o", 5120, 8192, false},
                                           {"32B gate_up", 51200, 5120, true},
                                           {"32B down", 5120, 25600, false},
                                           {"8B qkv", 6144, 4096, false},
                                           {"8B o", 4096, 4096, false},
                                           {"8B gate_up", 24576, 4096, true},
                                           {"8B down", 4096, 12288, false},
                                           {"8B lm_head", 151936, 4096, false}}};

DeviceMemory random_rows(int rows, int columns) {
  DeviceMemory memory = allocate(static_cast<size_t>(rows) * static_cast<size_t>(columns) * 2);
  fill_random(memory.as<uint16_t>(), memory.bytes() / 2, 5, 1.0F, nullptr);
  return memory;
}

// A product whose weights are other ones at every call.
class LinearRow {
 public:
  LinearRow(const WeightPool& pool, const Layer& layer, int m)
      : pool_(pool),
        layer_(layer),
        x_(random_rows(m, layer.k)),
        out_(allocate(size_t(m) * size_t(layer.n) * 4)) {
    args_.x = x_.as<uint16_t>();
    args_.m = m;
    args_.n = layer.n;
    args_.k = layer.k;
    args_.out = out_.as<void>();
    sets_ = std::max<size_t>(1, pool.bytes / bytes());
    calls_ = static_cast<int>(std::clamp<size_t>((size_t{1} << 30) / bytes() + 1, 4, 64));
  }

  size_t bytes() const { return static_cast<size_t>(layer_.n) * static_cast<size_t>(layer_.k) * 2; }
  const LinearArgs& args() const { return args_; }

  template <class Run>
  Timing time(Run run) {
    return time_graph(
        calls_,
        [&](int i, cudaStream_t stream) {
          args_.w = pool_.data + static_cast<size_t>(i) % sets_ * (bytes() / 2);
          LaunchOptions launch;
          launch.stream = stream;
          run(args_, launch);
        },
        5);
  }

 private:
  WeightPool pool_;
  Layer layer_;
  DeviceMemory x_, out_;
  LinearArgs args_;
  size_t sets_ = 1;
  int calls_ = 1;
};

GatedLinearArgs gated(const LinearArgs& args) {
  GatedLinearArgs both;
  both.x = args.x;
  both.w = args.w;
  both.m = args.m;
  both.inner = args.n / 2;
  both.k = args.k;
  both.out = static_cast<uint16_t*>(args.out);
  return both;
}

struct Best {
  double first_us = 0.0;
  double us = 0.0;
  std::string name;
};

Best best_of_cublaslt(const CublasLt& library, LinearRow& row, void* workspace, int guesses, bool split_k) {
  Best best;
  for (const auto& algorithm : unwrap(library.candidates(row.args(), split_k, guesses))) {
    bool runs = true;
    const double us = row.time([&](const LinearArgs& args, const LaunchOptions& launch) {
                           runs = runs && library.run(args, algorithm, workspace, launch).ok();
                         })
                          .us;
    if (!runs) continue;
    if (best.us == 0.0) best.first_us = us;
    if (best.us != 0.0 && us >= best.us) continue;
    best.us = us;
    best.name = library.describe(algorithm);
  }
  return best;
}

}  // namespace

void bench_skinny(const WeightPool& pool, ColdRead& cold, int num_sms, bool quick) {
  const DeviceMemory skinny = allocate(static_cast<size_t>(kernels::cuda::skinny_workspace_bytes(num_sms)));
  CUDA_OK(cudaMemset(skinny.as<void>(), kernels::cuda::kUnwrittenByte, skinny.bytes()));
  const DeviceMemory workspace = allocate(CublasLt::kWorkspaceBytes);
  auto loaded = CublasLt::load();
  std::optional<CublasLt> library;
  if (loaded.ok()) {
    library = std::move(*loaded);
  } else {
    std::printf("no cuBLASLt: %s\n", loaded.status().message().c_str());
  }
  std::printf(
      "| layer | M | MB | cold read us | ours us | PDL us | PDL, gated us | cuBLASLt first us | best of 8 us "
      "| "
      "ours of cold | ours PDL of cold | cuBLASLt of cold | which |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Layer& layer : kLayers) {
    for (const int m : {1, 4, 8, 16, 32, 64}) {
      if (quick && m != 4 && m != 16 && m != 64) continue;
      LinearRow row(pool, layer, m);
      const double cold_us = cold.us(row.bytes());
      const auto ours = [&](bool programmatic) {
        return row
            .time([&](const LinearArgs& args, LaunchOptions launch) {
              launch.programmatic = programmatic;
              unwrap(kernels::cuda::run_skinny(args, skinny.as<void>(), num_sms, launch));
            })
            .us;
      };
      const double alone_us = ours(false);
      const double chained_us = ours(true);
      const double gated_us =
          !layer.gated
              ? 0.0
              : row.time([&](const LinearArgs& args, LaunchOptions launch) {
                     launch.programmatic = true;
                     unwrap(kernels::cuda::run_skinny_gated(gated(args), skinny.as<void>(), num_sms, launch));
                   })
                    .us;
      Best peer;
      if (library) peer = best_of_cublaslt(*library, row, workspace.as<void>(), 8, true);
      std::printf("| %s | %d | %.1f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.3f | %.3f | %.3f | %s |\n",
                  layer.name, m, static_cast<double>(row.bytes()) / 1e6, cold_us, alone_us, chained_us,
                  gated_us, peer.first_us, peer.us, cold_us / alone_us, cold_us / chained_us,
                  cold_us / peer.us, peer.name.c_str());
      std::fflush(stdout);
    }
  }
  std::printf("\n");
}

void bench_large(const WeightPool& pool) {
  auto loaded = CublasLt::load();
  std::string why;
  const auto square = Gemm::load(&why);
  if (!loaded.ok() || square == nullptr) {
    std::printf("no cuBLAS: %s\n", why.c_str());
    return;
  }
  const DeviceMemory workspace = allocate(CublasLt::kWorkspaceBytes);
  const double limit =
      Gemm::flops() / time_stream([&](cudaStream_t stream) { square->run(stream); }, 1, 5).us / 1e6;
  std::printf("Square product: %.0f TFLOP/s\n\n", limit);
  std::printf(
      "| layer | M | best of 8 us | TFLOP/s | of square | first guess of best | without split-K of best | "
      "one for "
      "every M of best | which |\n|---|---|---|---|---|---|---|---|---|\n");
  for (const Layer& layer : kLayers) {
    if (layer.n > 100000) continue;
    LinearRow typical(pool, layer, 128);
    const auto fixed = unwrap(loaded->candidates(typical.args(), false, 1)).front();
    for (const int m : {16, 128, 512, 2048, 8192}) {
      LinearRow row(pool, layer, m);
      const Best best = best_of_cublaslt(*loaded, row, workspace.as<void>(), 8, true);
      const Best whole = best_of_cublaslt(*loaded, row, workspace.as<void>(), 4, false);
      const double fixed_us = row.time([&](const LinearArgs& args, const LaunchOptions& launch) {
                                   unwrap(loaded->run(args, fixed, workspace.as<void>(), launch));
                                 })
                                  .us;
      const double tflops = 2.0 * m * layer.n * layer.k / best.us / 1e6;
      std::printf("| %s | %d | %.1f | %.0f | %.2f | %.2f | %.2f | %.2f | %s |\n", layer.name, m, best.us,
                  tflops, tflops / limit, best.us / best.first_us, best.us / whole.us, best.us / fixed_us,
                  best.name.c_str());
      std::fflush(stdout);
    }
  }
  std::printf("\n");
}

}  // namespace bifocal::peers
