// The loops of peak.h, written once with simd.h.
#pragma once

#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/simd.h"

namespace bifocal::kernels::cpu {
namespace {

// Ten sums in flight: two units times the latency of 4 to 5 cycles, within 16 registers.
inline int64_t f32_fma_loop(int64_t iterations) {
  constexpr int64_t kSums = 10;
  simd::Vec sums[kSums];
  for (int64_t j = 0; j < kSums; ++j) sums[j] = simd::set1(static_cast<float>(j));
  const simd::Vec x = simd::set1(0.999F);
  const simd::Vec y = simd::set1(1e-3F);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
    for (int64_t j = 0; j < kSums; ++j) sums[j] = simd::fma(sums[j], x, y);
  }
  simd::Vec total = simd::zero();
  for (int64_t j = 0; j < kSums; ++j) total = simd::add(total, sums[j]);
  volatile float sink = simd::sum(total);  // or the compiler would drop the loop
  (void)sink;
  return iterations * kSums * simd::kLanes * 2;
}

inline uint32_t read_loop(const void* data, size_t num_bytes) {
  constexpr int64_t kVectors = 8;
  constexpr int64_t kStepFloats = kVectors * simd::kLanes;
  constexpr int64_t kPrefetchFloats = 256;
  const auto* const p = static_cast<const float*>(data);
  const auto n = static_cast<int64_t>(num_bytes / sizeof(float));
  simd::Vec sums[kVectors];
  for (int64_t j = 0; j < kVectors; ++j) sums[j] = simd::zero();
  for (int64_t i = 0; i < n; i += kStepFloats) {
    for (int64_t line = 0; line < kStepFloats; line += 16) simd::prefetch(p + i + kPrefetchFloats + line);
#pragma GCC unroll 8
    for (int64_t j = 0; j < kVectors; ++j) sums[j] = simd::add(sums[j], simd::load(p + i + j * simd::kLanes));
  }
  simd::Vec total = simd::zero();
  for (int64_t j = 0; j < kVectors; ++j) total = simd::add(total, sums[j]);
  return bits_of(simd::sum(total));
}

}  // namespace
}  // namespace bifocal::kernels::cpu
