// Row operations of one instruction set; elementwise.cpp spreads rows over threads. See elementwise.h for
// what they compute. Plain structs only: included by files with an instruction set's flags.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cpu {

struct ElementwiseRows {
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t dim, float* y);
  void (*silu_mul)(const float* gate, const float* up, int64_t dim, float* out);
  void (*clamped_swiglu)(const float* gate, const float* up, float limit, int64_t dim, float* out);

  // cos and sin of position * inv_freq[i], times factor.
  void (*rope_angles)(double position, const float* inv_freq, int64_t n, float factor, float* cos,
                      float* sin);
  // Pairs (first[i], second[i]) turned by angle i.
  void (*rotate_half)(float* first, float* second, const float* cos, const float* sin, int64_t n);
  // Pairs (x[2i], x[2i+1]) turned by angle i.
  void (*rotate_interleaved)(float* x, const float* cos, const float* sin, int64_t n);

  void (*to_f16)(const float* x, int64_t n, uint16_t* out);
  void (*to_bf16)(const float* x, int64_t n, uint16_t* out);
  void (*to_f8_e4m3)(const float* x, int64_t n, uint8_t* out);
};

extern const ElementwiseRows kElementwiseScalar;
extern const ElementwiseRows kElementwiseAvx2;
extern const ElementwiseRows kElementwiseAvx512;

}  // namespace bifocal::kernels::cpu
