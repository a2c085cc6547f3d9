#include "kernels/cpu/gemm_simd.h"

namespace bifocal::kernels::cpu {

constinit const GemmKernels kGemmAvx2 = make_gemm_kernels<6>();

}  // namespace bifocal::kernels::cpu
