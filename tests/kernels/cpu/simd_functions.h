// simd.h of one instruction set behind plain functions, so that tests can call every one the processor has.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cpu {

struct SimdFunctions {
  int64_t lanes;
  // Over lanes values.
  void (*exp)(const float* x, float* out);
  void (*swap_pairs)(const float* x, float* out);
  float (*sum)(const float* x);
  float (*max_lane)(const float* x);
  void (*copy_first)(const float* x, int64_t n, float* loaded, float* stored);
  void (*from_f16)(const uint16_t* x, float* out);
  void (*from_bf16)(const uint16_t* x, float* out);
  void (*from_f8_e4m3)(const uint8_t* x, float* out);
  void (*from_bf16_pairs)(const uint16_t* pairs, float* even, float* odd);
};
extern const SimdFunctions kSimdScalar;
extern const SimdFunctions kSimdAvx2;
extern const SimdFunctions kSimdAvx512;

}  // namespace bifocal::kernels::cpu
