// Reading a quantised tensor of a checkpoint as what it stands for.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "weights/quantised.h"

namespace bifocal::weights {

// fp8: f32 [N, K] in staging. mxfp4: bf16 [..., K, N], a view with strides: each [N, K] lies in a row in
// staging.
Expected<TensorView> dequantise(const QuantisedTensor& tensor, std::span<const int64_t> shape,
                                Tensor& staging);

}  // namespace bifocal::weights
