// What every row of a benchmark needs: errors that end the program, arrays on the device.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kernels/cuda/device_memory.h"
#include "timing.h"

namespace bifocal::peers {

inline void unwrap(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

template <class T>
T unwrap(Expected<T> value) {
  unwrap(value.status());
  return std::move(*value);
}

inline kernels::cuda::DeviceMemory allocate(size_t bytes) {
  return unwrap(kernels::cuda::DeviceMemory::allocate(bytes));
}

template <class T>
kernels::cuda::DeviceMemory upload(const std::vector<T>& host) {
  auto memory = allocate(host.size() * sizeof(T));
  CUDA_OK(cudaMemcpy(memory.template as<T>(), host.data(), memory.bytes(), cudaMemcpyHostToDevice));
  return memory;
}

}  // namespace bifocal::peers
