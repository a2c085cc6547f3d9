// Streams, events and captured graphs: what a host thread drives a GPU with.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
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

Status record(const Event& event, const Stream& stream);
// The host waits: for everything before the event in its stream, or for all of the stream. An error that the
// device met by then comes out here, as "<what>: ...".
Status wait(const Event& event, std::string_view what);
Status wait(const Stream& stream, std::string_view what);

// The stream waits, not the host: what follows in it starts after the event.
Status wait_in_stream(const Stream& stream, const Event& event);

// What `enqueue` puts into the stream, recorded instead of run. It may launch and copy asynchronously, and
// nothing else.
Expected<Graph> capture(const Stream& stream, const std::function<Status()>& enqueue);
Status launch(const Graph& graph, const Stream& stream);

struct DeviceMemoryInfo {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
Expected<DeviceMemoryInfo> device_memory_info();

}  // namespace bifocal::kernels::cuda
