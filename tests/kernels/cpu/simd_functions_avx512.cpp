#include "kernels/cpu/simd_functions.inc"

namespace bifocal::kernels::cpu {

constinit const SimdFunctions kSimdAvx512 = kTable;

}  // namespace bifocal::kernels::cpu
