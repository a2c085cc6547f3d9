// Words that pass from one CTA to another through global memory.
//
// A word is its own mark: before it is written it is kUnwritten; the one thread that reads it polls it and
// puts the mark back. So nobody counts and nothing needs a fence. Who writes a word and who reads it must be
// on the device together.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/unwritten_byte.h"

namespace bifocal::kernels::cuda {

constexpr uint32_t kUnwritten = 0x01010101U * kUnwrittenByte;  // a NaN that no arithmetic gives

__device__ __forceinline__ bool is_unwritten(float word) {
  return __float_as_uint(word) == kUnwritten;
}
__device__ __forceinline__ bool is_unwritten(const float2& v) {
  return is_unwritten(v.x) || is_unwritten(v.y);
}
__device__ __forceinline__ bool is_unwritten(const float4& v) {
  return is_unwritten(v.x) || is_unwritten(v.y) || is_unwritten(v.z) || is_unwritten(v.w);
}

// A word as it may be written: another NaN in the mark's place.
__device__ __forceinline__ float writable(float word) {
  return __uint_as_float(min(__float_as_uint(word), kUnwritten - 1));
}
__device__ __forceinline__ float4 writable(const float4& v) {
  return make_float4(writable(v.x), writable(v.y), writable(v.z), writable(v.w));
}

// Takes what another CTA has written or will write.
template <class Vector>
__device__ __forceinline__ void take(Vector* address, Vector& value) {
  while (is_unwritten(value)) value = load_relaxed(address);
}
__device__ __forceinline__ void put_mark_back(float4* address) {
  const float mark = __uint_as_float(kUnwritten);
  store_relaxed(address, make_float4(mark, mark, mark, mark));
}
__device__ __forceinline__ void put_mark_back(float2* address) {
  const float mark = __uint_as_float(kUnwritten);
  store_relaxed(address, make_float2(mark, mark));
}

}  // namespace bifocal::kernels::cuda
