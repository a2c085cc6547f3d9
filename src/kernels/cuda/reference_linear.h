// A matrix product the obvious way, summed in double: what the fast ones are compared with. Slow.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace bifocal::kernels::cuda {

struct LinearArgs;

// args as in linear.h, but for the result: f32 [M, N], whatever out_dtype says.
Status run_reference_linear(const LinearArgs& args, cudaStream_t stream);

}  // namespace bifocal::kernels::cuda
