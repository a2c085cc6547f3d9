#include "kernels/cpu/elementwise_simd.h"

namespace bifocal::kernels::cpu {

constinit const ElementwiseRows kElementwiseAvx512 = kRows;

}  // namespace bifocal::kernels::cpu
