// The kernels compiled for AVX512. Everything shared with the rest of the program is included before the
// target changes, so that no inline function of it is compiled for a processor that may not be there.
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include <immintrin.h>
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/element.h"
#include "kernels/cpu/attention/key_block.h"
#include "kernels/cpu/attention/tables.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")

#include "kernels/cpu/attention/simd_avx512.h"
#include "kernels/cpu/attention/streaming_inl.h"
#include "kernels/cpu/attention/tiled_inl.h"

namespace bifocal::kernels::cpu {

extern const AttentionKernels kAttentionAvx512{Tiled<Avx512Simd>::kKernel, Streaming<Avx512Simd>::kKernel,
                                               fold<Avx512Simd>, finish<Avx512Simd>};

}  // namespace bifocal::kernels::cpu

#pragma GCC pop_options
