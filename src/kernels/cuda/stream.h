// Streams, events, pinned host memory and captured graphs: what a host thread drives a GPU with.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/status.h"
#include "kernels/cuda/device_memory.h"

namespace bifocal::kernels::cuda {

// Owns a CUDA handle and destroys it.
template <class T, cudaError_t (*destroy)(T)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_ != nullptr) destroy(handle_);
  }
  T get() const { return handle_; }

 private:
  T handle_ = nullptr;
};

using Stream = Handle<cudaStream_t, cudaStreamDestroy>;
using Event = Handle<cudaEvent_t, cudaEventDestroy>;
using Graph = Handle<cudaGraphExec_t, cudaGraphExecDestroy>;

// A stream that does not wait for the default one.
Expected<Stream> make_stream();
// Not for timing: for order between streams, and for the host to wait on.
Expected<Event> make_event();

// What `enqueue` puts into the stream, recorded instead of run. It may launch and copy asynchronously, and
// nothing else.
Expected<Graph> capture(const Stream& stream, const std::function<Status()>& enqueue);
Status launch(const Graph& graph, const Stream& stream);

// Host memory that copies to and from the GPU run at full speed from, and asynchronously.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedMemory();

  // Uninitialised. resource_exhausted when the system has no room.
  static Expected<PinnedMemory> allocate(size_t bytes);

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

struct DeviceMemoryInfo {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
Expected<DeviceMemoryInfo> device_memory_info();

}  // namespace bifocal::kernels::cuda
