// The limits of the tables, for programs that aren't C++.
#include <cuda_runtime_api.h>

#include <memory>

#include "cold_read.h"

// Microseconds that the fastest reading kernel takes for so many bytes of the pool, which is larger than the L2.
extern "C" __attribute__((visibility("default"))) double peers_cold_read_us(const void* pool, size_t pool_bytes,
                                                                            size_t bytes) {
  int device = 0;
  int num_sms = 0;
  CUDA_OK(cudaGetDevice(&device));
  CUDA_OK(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, device));
  return bifocal::peers::ColdRead(pool, pool_bytes, num_sms).us(bytes);
}
