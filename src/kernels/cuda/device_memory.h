// Device and pinned host memory that frees itself, and CUDA's errors as Status.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace bifocal::kernels::cuda {

// ok, or internal_error "<what>: <CUDA's name and description>".
Status to_status(cudaError_t error, std::string_view what);

// Memory that CUDA's allocator `Source` gives and takes back.
template <class Source>
class CudaMemory {
 public:
  CudaMemory() = default;
  CudaMemory(CudaMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  CudaMemory& operator=(CudaMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~CudaMemory() {
    if (data_ != nullptr) Source::release(data_);
  }

  // Uninitialised. resource_exhausted when there is no room.
  static Expected<CudaMemory> allocate(size_t bytes) {
    CudaMemory memory;
    if (bytes == 0) return memory;
    BIFOCAL_RETURN_IF_ERROR(
        to_status(Source::allocate(&memory.data_, bytes),
                  std::string("allocating ") + std::to_string(bytes) + " bytes " + Source::kWhere));
    memory.bytes_ = bytes;
    return memory;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

struct DeviceSource {
  static constexpr const char* kWhere = "on the GPU";
  static cudaError_t allocate(void** data, size_t bytes) { return cudaMalloc(data, bytes); }
  static cudaError_t release(void* data) { return cudaFree(data); }
};
using DeviceMemory = CudaMemory<DeviceSource>;

// Host memory that copies to and from the GPU run at full speed from, and asynchronously.
struct PinnedSource {
  static constexpr const char* kWhere = "of pinned memory";
  static cudaError_t allocate(void** data, size_t bytes) { return cudaMallocHost(data, bytes); }
  static cudaError_t release(void* data) { return cudaFreeHost(data); }
};
using PinnedMemory = CudaMemory<PinnedSource>;

// The device that kernels of this room run on: compute capability 9.0. `unavailable` says what is missing.
struct DeviceTraits {
  std::string name;  // "NVIDIA H200"
  int num_sms = 0;
  int smem_per_block_bytes = 0;
  size_t l2_bytes = 0;
};
Expected<DeviceTraits> current_device();

}  // namespace bifocal::kernels::cuda
