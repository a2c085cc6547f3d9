#include <cstdio>
#include <functional>
#include <string>

#include "device.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/sample.h"
#include "layer_rows.h"
#include "tensor/dtype.h"

namespace bifocal::peers {
namespace {

using namespace kernels::cuda;  // NOLINT(google-build-using-namespace)

// A chain of calls, each after the one before and each as a programmatic dependent of it.
void print_row(const std::string& name, int rows, double bytes, ColdRead& cold,
               const std::function<Status(const LaunchOptions&)>& run) {
  const auto time = [&](bool programmatic) {
    return time_graph(100,
                      [&](int, cudaStream_t stream) {
                        LaunchOptions launch;
                        launch.stream = stream;
                        launch.programmatic = programmatic;
                        unwrap(run(launch));
                      })
        .us;
  };
  const double alone = time(false);
  const double chained = time(true);
  std::printf("| %s | %d | %.2f | %.2f | %.2f | %.0f | %.2f |\n", name.c_str(), rows, bytes / 1e6, alone,
              chained, bytes / chained / 1e3, cold.us(static_cast<size_t>(bytes)) / chained);
  std::fflush(stdout);
}

DeviceMemory random_values(size_t count, float scale = 1.0F) {
  DeviceMemory memory = allocate(count * 2);
  fill_random(memory.as<uint16_t>(), count, 7, scale, nullptr);
  return memory;
}

void bench_rows(ColdRead& cold, int rows) {
  constexpr int kHidden = 5120;
  constexpr int kInner = 25600;
  constexpr int kHeads = 64;
  constexpr int kKvHeads = 8;
  constexpr int kHeadDim = 128;
  constexpr int kPage = 64;
  const auto count = [&](int width) { return static_cast<size_t>(rows) * static_cast<size_t>(width); };
  const auto bf16_bytes = [&](int width) { return static_cast<double>(count(width)) * 2.0; };

  const DeviceMemory residual = random_values(count(kHidden));
  const DeviceMemory x = random_values(count(kHidden), 0.0F);
  const DeviceMemory weight = random_values(kHidden);
  const DeviceMemory out = allocate(count(kHidden) * 2);
  RmsNorm norm;
  norm.residual = residual.as<uint16_t>();
  norm.w = weight.as<uint16_t>();
  norm.out = out.as<uint16_t>();
  norm.eps = 1e-6F;
  norm.num_rows = rows;
  norm.dim = kHidden;
  print_row("rms_norm", rows, 2 * bf16_bytes(kHidden), cold,
            [&](const LaunchOptions& launch) { return rms_norm(norm, launch); });
  norm.x = x.as<uint16_t>();
  print_row("rms_norm with add", rows, 4 * bf16_bytes(kHidden), cold,
            [&](const LaunchOptions& launch) { return rms_norm(norm, launch); });

  const DeviceMemory qkv = random_values(count((kHeads + 2 * kKvHeads) * kHeadDim));
  const DeviceMemory head_norm = random_values(kHeadDim);
  const DeviceMemory inv_freq = upload(std::vector<float>(kHeadDim / 2, 0.01F));
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  std::vector<int64_t> slots(static_cast<size_t>(rows));
  for (size_t i = 0; i < slots.size(); ++i) {
    positions[i] = static_cast<int32_t>(i * 13 % 40000);
    slots[i] = static_cast<int64_t>(rows <= 256 ? i * kPage + i % kPage : i);
  }
  const int64_t pages = slots.back() / kPage + 1;
  const DeviceMemory d_positions = upload(positions);
  const DeviceMemory d_slots = upload(slots);
  const DeviceMemory q = allocate(count(kHeads * kHeadDim) * 2);
  const DeviceMemory k = allocate(static_cast<size_t>(pages * kPage * kKvHeads * kHeadDim) * 2);
  const DeviceMemory v = allocate(k.bytes());
  RopeKv rope;
  rope.qkv = qkv.as<uint16_t>();
  rope.q_norm = head_norm.as<uint16_t>();
  rope.k_norm = head_norm.as<uint16_t>();
  rope.norm_eps = 1e-6F;
  rope.inv_freq = inv_freq.as<float>();
  rope.rotary_dim = kHeadDim;
  rope.positions = d_positions.as<int32_t>();
  rope.kv_slots = d_slots.as<int64_t>();
  rope.num_tokens = rows;
  rope.num_heads = kHeads;
  rope.num_kv_heads = kKvHeads;
  rope.head_dim = kHeadDim;
  rope.page_size = kPage;
  rope.q = q.as<uint16_t>();
  rope.k = k.as<uint16_t>();
  rope.v = v.as<uint16_t>();
  print_row("rope_kv, 64 + 16 heads", rows, 2 * bf16_bytes((kHeads + 2 * kKvHeads) * kHeadDim), cold,
            [&](const LaunchOptions& launch) { return rope_kv(rope, launch); });

  const DeviceMemory gate_up = random_values(count(2 * kInner));
  const DeviceMemory gated = allocate(count(kInner) * 2);
  SiluMul silu;
  silu.gate_up = gate_up.as<uint16_t>();
  silu.out = gated.as<uint16_t>();
  silu.num_rows = rows;
  silu.dim = kInner;
  print_row("silu_mul", rows, 3 * bf16_bytes(kInner), cold,
            [&](const LaunchOptions& launch) { return silu_mul(silu, launch); });

  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % ids.size());
  const DeviceMemory d_ids = upload(ids);
  GatherRows gather;
  gather.table = gate_up.as<uint16_t>();
  gather.table_rows = rows;
  gather.dim = kHidden;
  gather.ids = d_ids.as<int32_t>();
  gather.num_rows = rows;
  gather.out = out.as<uint16_t>();
  print_row("gather_rows", rows, 2 * bf16_bytes(kHidden), cold,
            [&](const LaunchOptions& launch) { return gather_rows(gather, launch); });
}

void bench_sampling(ColdRead& cold) {
  constexpr int kVocab = 151936;
  struct Kind {
    const char* name;
    kernels::SampleParams params;
    float scale;
  };
  const std::vector<Kind> kinds = {{"sample, greedy", {1, 0.0, 1.0, 0.0, -1, 77}, 4.0F},
                                   {"sample, temperature", {1, 1.0, 1.0, 0.0, -1, 77}, 4.0F},
                                   {"sample, top-k 20, top-p 0.8", {1, 0.7, 0.8, 0.0, 20, 77}, 4.0F},
                                   {"sample, top-p 0.95", {1, 0.6, 0.95, 0.0, -1, 77}, 4.0F},
                                   {"sample, top-p 0.95, flat", {1, 1.0, 0.95, 0.0, -1, 77}, 0.1F}};
  for (const Kind& kind : kinds) {
    for (const int rows : {1, 16, 64}) {
      std::vector<uint16_t> bits(static_cast<size_t>(kVocab) * static_cast<size_t>(rows));
      const DeviceMemory values = random_values(bits.size(), kind.scale);
      CUDA_OK(cudaMemcpy(bits.data(), values.as<void>(), values.bytes(), cudaMemcpyDeviceToHost));
      std::vector<float> host(bits.size());
      // Few equal ones, as an f32 product gives.
      for (size_t i = 0; i < bits.size(); ++i) {
        host[i] = to_float(BFloat16{bits[i]}) * (1.0F + 1e-7F * static_cast<float>(i % 40000));
      }
      const DeviceMemory logits = upload(host);
      const DeviceMemory params =
          upload(std::vector<kernels::SampleParams>(static_cast<size_t>(rows), kind.params));
      const DeviceMemory tokens = allocate(static_cast<size_t>(rows) * 4);
      const DeviceMemory workspace = allocate(static_cast<size_t>(sample_workspace_bytes(rows, kVocab)));
      SampleArgs args;
      args.logits = logits.as<float>();
      args.num_rows = rows;
      args.vocab_size = kVocab;
      args.params = params.as<kernels::SampleParams>();
      args.tokens = tokens.as<int32_t>();
      args.workspace = workspace.as<void>();
      print_row(kind.name, rows, 4.0 * kVocab * rows, cold,
                [&](const LaunchOptions& launch) { return sample(args, launch); });
    }
  }
}

}  // namespace

void bench_small(ColdRead& cold) {
  std::printf(
      "| kernel | rows | MB | us | PDL us | GB/s | cold read of the bytes / PDL "
      "|\n|---|---|---|---|---|---|---|\n");
  for (const int rows : {1, 4, 16, 64, 256, 4096}) bench_rows(cold, rows);
  bench_sampling(cold);
  const DeviceMemory filled = allocate(size_t{4} << 30);
  RandomFill fill;
  fill.data = filled.as<void>();
  fill.num_bytes = static_cast<int64_t>(filled.bytes());
  fill.key = 1;
  fill.random_mask = 0x807F807F807F807FULL;
  fill.constant = 0x3D003D003D003D00ULL;
  const double us = time_stream(
                        [&](cudaStream_t stream) {
                          LaunchOptions launch;
                          launch.stream = stream;
                          unwrap(random_fill(fill, launch));
                        },
                        1, 5)
                        .us;
  std::printf("\nrandom_fill: %.0f GB/s, 65 GB in %.0f ms\n\n",
              static_cast<double>(filled.bytes()) / us / 1e3,
              65e9 / (static_cast<double>(filled.bytes()) / us) / 1e3);
}

}  // namespace bifocal::peers
