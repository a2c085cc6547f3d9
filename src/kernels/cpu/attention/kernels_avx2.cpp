#include "kernels/cpu/attention/kernels_simd.h"

namespace bifocal::kernels::cpu {

constinit const AttentionKernels kAttentionAvx2 = kKernels;

}  // namespace bifocal::kernels::cpu
