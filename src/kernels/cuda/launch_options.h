// How a kernel follows the one before it in the stream.
#pragma once

#include <cuda_runtime_api.h>

namespace bifocal::kernels::cuda {

// Every kernel of this room that is launched with `programmatic` waits for all that the kernel before it has
// written, before it reads or writes anything but weights: so does, in turn, the kernel after it.
struct LaunchOptions {
  cudaStream_t stream = nullptr;
  // May start while the kernel before it ends (programmatic dependent launch).
  bool programmatic = false;
  // Decode attention with `programmatic`: the plan, and all keys and values but each sequence's last q_len,
  // were complete before the kernel before this one started. They are then read while it still runs.
  bool early = false;
};

}  // namespace bifocal::kernels::cuda
