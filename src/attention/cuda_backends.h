// What the router knows of the CUDA kernels: data, in every build, so that `backends` and `explain --device
// cuda` answer without a GPU. CudaPlanner plans and runs them.
#pragma once

#include <span>

#include "attention/backend.h"

namespace bifocal::attention {

// prefill_ws, decode_mma. Their plan() and run() must not be called.
std::span<const Backend* const> cuda_backends();

const Backend& prefill_ws_backend();
const Backend& decode_mma_backend();

}  // namespace bifocal::attention
