// Device memory that frees itself, and CUDA's errors as Status.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace bifocal::kernels::cuda {

// ok, or internal_error "<what>: <CUDA's name and description>".
Status to_status(cudaError_t error, std::string_view what);

class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceMemory();

  // Uninitialised. resource_exhausted when the device has no room.
  static Expected<DeviceMemory> allocate(size_t bytes);

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// The device that kernels of this room run on: compute capability 9.0. `unavailable` says what is missing.
struct DeviceTraits {
  int num_sms = 0;
  int smem_per_block_bytes = 0;
  size_t l2_bytes = 0;
};
Expected<DeviceTraits> current_device();

}  // namespace bifocal::kernels::cuda
