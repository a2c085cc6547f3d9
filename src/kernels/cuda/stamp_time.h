// When the device reached a point of a stream, in its own time: to measure what lies between kernels.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

// From a stamp to a stamp.
struct DeviceSpan {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

// *to_ns, on the device, becomes the time at which everything before it in the stream has ended.
Status stamp_time(int64_t* to_ns, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
