// Times what stands round attention in a layer beside what limits it.
#include <cstdio>
#include <cstring>
#include <string>

#include "device.h"
#include "layer_rows.h"

int main(int argc, char** argv) {
  std::string what = "skinny,chain,large,small";
  bool quick = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quick") {
      quick = true;
    } else if (flag == "--what" && i + 1 < argc) {
      what = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--what skinny,chain,large,small] [--quick]\n", argv[0]);
      return 2;
    }
  }
  const auto device = bifocal::kernels::cuda::current_device();
  if (!device.ok()) {
    std::printf("skipped: %s\n", device.status().message().c_str());
    return 0;
  }
  const size_t pool_bytes = size_t{4} << 30;
  const auto pool = bifocal::peers::allocate(pool_bytes);
  auto* memory = pool.as<uint16_t>();
  bifocal::peers::fill_random(memory, pool_bytes / 2, 1, 0.03F, nullptr);
  CUDA_OK(cudaDeviceSynchronize());
  std::printf("SMs %d, SM clock %.0f MHz\n\n", device->num_sms, bifocal::peers::sm_clock_mhz());
  bifocal::peers::ColdRead cold(memory, pool_bytes, device->num_sms);
  const auto wanted = [&](const char* name) { return what.find(name) != std::string::npos; };
  const bifocal::peers::WeightPool weights{memory, pool_bytes};
  if (wanted("skinny")) bifocal::peers::bench_skinny(weights, cold, device->num_sms, quick);
  if (wanted("chain")) bifocal::peers::bench_chain(weights, cold, device->num_sms, quick);
  if (wanted("small")) bifocal::peers::bench_small(cold);
  if (wanted("large")) bifocal::peers::bench_large(weights);
  std::printf("SM clock %.0f MHz\n", bifocal::peers::sm_clock_mhz());
  return 0;
}
