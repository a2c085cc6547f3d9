#include "kernels/cpu/elementwise_simd.h"

namespace bifocal::kernels::cpu {

constinit const ElementwiseRows kElementwiseScalar = kRows;

}  // namespace bifocal::kernels::cpu
