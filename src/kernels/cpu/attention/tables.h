// One table of kernels per instruction set.
#pragma once

#include "kernels/cpu/attention/attention.h"

namespace bifocal::kernels::cpu {

extern const AttentionKernels kAttentionScalar;
extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;

}  // namespace bifocal::kernels::cpu
