// What is fixed of a matrix product when its number of rows is not.
#pragma once

#include "tensor/dtype.h"

namespace bifocal::kernels::cuda {

struct LinearProduct {
  int max_m = 0;  // the most rows
  int n = 0;      // gated: 2 I
  int k = 0;
  bool gated = false;  // with SiLU and the product of both halves
  bool bias = false;
  DType out_dtype = DType::bf16;  // or f32
  bool operator==(const LinearProduct&) const = default;
};

}  // namespace bifocal::kernels::cuda
