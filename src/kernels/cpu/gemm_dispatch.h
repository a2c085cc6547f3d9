// From (instruction set, weight type) to a kernel. For the files of this room that aren't compiled per
// instruction set.
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/isa.h"
#include "tensor/dtype.h"

namespace bifocal::kernels::cpu {

const GemmKernel& gemm_kernel(Isa isa, DType weight_dtype);  // f32, f16 or bf16

constexpr int64_t round_up(int64_t v, int64_t multiple) {
  return (v + multiple - 1) / multiple * multiple;
}

}  // namespace bifocal::kernels::cpu
