#include "kernels/cpu/attention/kernels_simd.h"

namespace bifocal::kernels::cpu {

constinit const AttentionKernels kAttentionAvx512 = kKernels;

}  // namespace bifocal::kernels::cpu
