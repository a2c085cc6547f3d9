// Tensor maps: how the copy engine sees an array. The driver's function is found at run time, so that
// programs start on machines without a driver.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

#include "base/status.h"

namespace bifocal::kernels::cuda {

struct TensorMapDim {
  int64_t size = 0;          // elements
  int64_t stride_bytes = 0;  // from one element to the next; unused for the innermost, whose elements touch
  int box = 0;               // elements of it in one copy
};

// bf16, the innermost dimension first, 128-byte swizzle, zeros outside of the array.
Status make_tensor_map(const void* base, std::span<const TensorMapDim> dims, CUtensorMap* map);

}  // namespace bifocal::kernels::cuda
