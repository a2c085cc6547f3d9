// The portable kernels.
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/element.h"
#include "kernels/cpu/attention/key_block.h"
#include "kernels/cpu/attention/tables.h"

#include "kernels/cpu/attention/simd_scalar.h"
#include "kernels/cpu/attention/streaming_inl.h"
#include "kernels/cpu/attention/tiled_inl.h"

namespace bifocal::kernels::cpu {

extern const AttentionKernels kAttentionScalar{Tiled<ScalarSimd>::kKernel, Streaming<ScalarSimd>::kKernel,
                                               fold<ScalarSimd>, finish<ScalarSimd>};

}  // namespace bifocal::kernels::cpu
