#include "kernels/cpu/simd_functions.inc"

namespace bifocal::kernels::cpu {

constinit const SimdFunctions kSimdScalar = kTable;

}  // namespace bifocal::kernels::cpu
