#include "kernels/cpu/attention/kernels_simd.h"

namespace bifocal::kernels::cpu {

constinit const AttentionKernels kAttentionScalar = kKernels;

}  // namespace bifocal::kernels::cpu
