#include <immintrin.h>

#include "kernels/cpu/peak_loops.h"

namespace bifocal::kernels::cpu {

int64_t peak_bf16_dot_avx512_bf16(int64_t iterations) {
  constexpr int64_t kSums = 12;
  __m512 sums[kSums];
  for (int64_t j = 0; j < kSums; ++j) sums[j] = _mm512_setzero_ps();
  const auto half = __builtin_bit_cast(__m512bh, _mm512_set1_epi16(0x3f00));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int64_t j = 0; j < kSums; ++j) sums[j] = _mm512_dpbf16_ps(sums[j], half, half);
  }
  __m512 total = _mm512_setzero_ps();
  for (int64_t j = 0; j < kSums; ++j) total = _mm512_add_ps(total, sums[j]);
  volatile float sink = _mm512_reduce_add_ps(total);  // or the compiler would drop the loop
  (void)sink;
  return iterations * kSums * 32 * 2;
}

}  // namespace bifocal::kernels::cpu
