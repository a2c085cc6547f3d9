#include "kernels/cpu/gemm_simd.h"

namespace bifocal::kernels::cpu {

constinit const GemmKernels kGemmAvx512 = make_gemm_kernels<12>();

}  // namespace bifocal::kernels::cpu
