#include "golden/host_waits.h"

#include <cuda_runtime_api.h>

#include <atomic>

namespace {
std::atomic<int64_t> waits{0};
}  // namespace

namespace bifocal {
int64_t host_waits() {
  return waits.load();
}
}  // namespace bifocal

// Those that wait by name, and those that do it in passing: copies without a stream and all allocation.
#define BIFOCAL_COUNT_WAITS(name, parameters, arguments) \
  extern "C" cudaError_t __real_##name parameters;       \
  extern "C" cudaError_t __wrap_##name parameters;       \
  extern "C" cudaError_t __wrap_##name parameters {      \
    ++waits;                                             \
    return __real_##name arguments;                      \
  }

BIFOCAL_COUNT_WAITS(cudaStreamSynchronize, (cudaStream_t stream), (stream))
BIFOCAL_COUNT_WAITS(cudaEventSynchronize, (cudaEvent_t event), (event))
BIFOCAL_COUNT_WAITS(cudaDeviceSynchronize, (), ())
BIFOCAL_COUNT_WAITS(cudaMemcpy, (void* to, const void* from, size_t bytes, cudaMemcpyKind kind),
                    (to, from, bytes, kind))
BIFOCAL_COUNT_WAITS(cudaMemset, (void* data, int value, size_t bytes), (data, value, bytes))
BIFOCAL_COUNT_WAITS(cudaMalloc, (void** data, size_t bytes), (data, bytes))
BIFOCAL_COUNT_WAITS(cudaFree, (void* data), (data))
BIFOCAL_COUNT_WAITS(cudaMallocHost, (void** data, size_t bytes), (data, bytes))
BIFOCAL_COUNT_WAITS(cudaFreeHost, (void* data), (data))
