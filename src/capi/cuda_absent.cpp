// In builds without CUDA.
#include "capi/device_attention.h"

namespace bifocal::capi {

Expected<std::unique_ptr<DeviceAttention>> make_cuda_attention(const attention::Router&,
                                                               const attention::AttentionDesc&,
                                                               const attention::PlanLimits&) {
  return unavailable("device cuda: this library was built without CUDA kernels (cmake --preset cuda)");
}

}  // namespace bifocal::capi
