#include "kernels/cpu/simd_functions.inc"

namespace bifocal::kernels::cpu {

constinit const SimdFunctions kSimdAvx2 = kTable;

}  // namespace bifocal::kernels::cpu
