#include "kernels/cpu/gemm_simd.h"

namespace bifocal::kernels::cpu {

constinit const GemmKernels kGemmScalar = make_gemm_kernels<4>();

}  // namespace bifocal::kernels::cpu
