// Position in a ring of slots guarded by mbarriers.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace bifocal::kernels::cuda {

// Who fills waits for the phase before, who empties for the phase itself.
template <int kSlots>
struct RingCursor {
  int slot = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

}  // namespace bifocal::kernels::cuda
