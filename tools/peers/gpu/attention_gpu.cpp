// Times attention beside what limits it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/cuda/device_memory.h"
#include "rows.h"

int main(int argc, char** argv) {
  bifocal::peers::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quick") {
      options.quick = true;
    } else if (flag == "--shape" && i + 1 < argc &&
               std::sscanf(argv[i + 1], "%d,%d,%d,%d", &options.heads, &options.kv_heads, &options.batch,
                           &options.len) == 4) {
      ++i;
    } else if (flag == "--what" && i + 1 < argc) {
      options.what = argv[++i];
    } else if (flag == "--spans" && i + 1 < argc &&
               std::sscanf(argv[i + 1], "%d,%d,%d", &options.spans.min_log2, &options.spans.max_log2,
                           &options.spans.max_spans) == 3) {
      ++i;
    } else {
      std::fprintf(stderr,
                   "usage: %s [--what limits,random,plan,decode,mixed,prefill] [--quick] [--shape "
                   "H,HK,B,LEN] [--spans "
                   "MIN_LOG2,MAX_LOG2,MAX_SPANS]\n",
                   argv[0]);
      return 2;
    }
  }
  const auto device = bifocal::kernels::cuda::current_device();
  if (!device.ok()) {
    std::printf("skipped: %s\n", device.status().message().c_str());
    return 0;
  }
  bifocal::peers::Pools pools;
  pools.bytes = size_t{2304} << 20;
  const auto pool = bifocal::kernels::cuda::DeviceMemory::allocate(2 * pools.bytes);
  if (!pool.ok()) {
    std::fprintf(stderr, "%s\n", pool.status().message().c_str());
    return 1;
  }
  auto* memory = pool->as<uint16_t>();
  pools.k = memory;
  pools.v = memory + pools.bytes / 2;
  bifocal::peers::fill_random(memory, pools.bytes, 1, 1.0F, nullptr);
  CUDA_OK(cudaDeviceSynchronize());
  std::printf("SMs %d, SM clock %.0f MHz\n\n", device->num_sms, bifocal::peers::sm_clock_mhz());
  bifocal::peers::ColdRead cold(memory, 2 * pools.bytes, device->num_sms);
  const auto wanted = [&](const char* name) { return options.what.find(name) != std::string::npos; };
  if (wanted("limits")) {
    std::printf("| MB | us | GB/s | kernel |\n|---|---|---|---|\n");
    for (size_t mb = 1; mb <= 4096; mb *= 2) {
      const double us = cold.us(mb << 20);
      std::printf("| %zu | %.2f | %.0f | %s |\n", mb, us, static_cast<double>(mb << 20) / us / 1e3,
                  cold.kernel().c_str());
    }
    std::printf("\n");
  }
  if (wanted("random")) {
    std::printf("| MB in random pieces of 16 KB | together | us | GB/s |\n|---|---|---|---|\n");
    for (const size_t mb : {size_t{128}, size_t{2048}}) {
      for (const int together : {1, 2, 4, 8}) {
        const double us = cold.random_us(mb << 20, together);
        std::printf("| %zu | %d | %.2f | %.0f |\n", mb, together, us,
                    static_cast<double>(mb << 20) / us / 1e3);
      }
    }
    std::printf("\n");
  }
  if (wanted("plan")) bifocal::peers::bench_plan(options);
  if (wanted("decode")) bifocal::peers::bench_decode(options, pools, cold);
  if (wanted("mixed")) bifocal::peers::bench_mixed(options, pools, cold);
  if (wanted("prefill")) bifocal::peers::bench_prefill(options, pools);
  std::printf("SM clock %.0f MHz\n", bifocal::peers::sm_clock_mhz());
  return 0;
}
