// Arrays between host and device for tests, and random bf16 values.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/hash.h"
#include "kernels/cuda/device_memory.h"
#include "tensor/dtype.h"

#define REQUIRE_GPU() \
  if (const auto device = current_device(); !device.ok()) GTEST_SKIP() << device.status().message()

// linear: an Expected<Linear>.
#define REQUIRE_CUBLASLT(linear)                                             \
  if (!(linear).ok() && (linear).status().code() == StatusCode::unavailable) \
    GTEST_SKIP() << (linear).status().message();                             \
  ASSERT_TRUE((linear).ok()) << (linear).status().message()

namespace bifocal::kernels::cuda {

template <class T>
DeviceMemory upload(const std::vector<T>& host) {
  auto memory = DeviceMemory::allocate(host.size() * sizeof(T));
  BIFOCAL_CHECK(memory.ok());
  BIFOCAL_CHECK_EQ(cudaMemcpy(memory->template as<T>(), host.data(), memory->bytes(), cudaMemcpyHostToDevice),
                   cudaSuccess);
  return std::move(*memory);
}

// `count` elements of bytes 0xFF: NaN as bf16 and f32.
template <class T>
DeviceMemory poisoned(size_t count) {
  return upload(std::vector<uint8_t>(count * sizeof(T), 0xFF));
}

template <class T>
std::vector<T> download(const DeviceMemory& memory) {
  std::vector<T> host(memory.bytes() / sizeof(T));
  BIFOCAL_CHECK_EQ(cudaMemcpy(host.data(), memory.as<T>(), memory.bytes(), cudaMemcpyDeviceToHost),
                   cudaSuccess);
  return host;
}

inline double bf16_value(uint16_t bits) {
  return static_cast<double>(to_float(BFloat16{bits}));
}

// Uniform in [-scale, scale), rounded to bf16.
inline std::vector<uint16_t> random_bf16(size_t count, uint64_t seed, double scale = 1.0) {
  SplitMix64 random(seed);
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) {
    value = to_bfloat16(static_cast<float>((2.0 * random.uniform() - 1.0) * scale)).bits;
  }
  return values;
}

// Within half a unit in the last place of bf16 of `expected`, f32 noise of `slack` included.
inline testing::AssertionResult is_rounded(uint16_t actual, double expected, double slack = 1e-5) {
  const double error = std::abs(bf16_value(actual) - expected);
  if (error <= std::abs(expected) * 0x1.02p-8 + slack) return testing::AssertionSuccess();
  return testing::AssertionFailure() << bf16_value(actual) << " is " << error << " off " << expected;
}

}  // namespace bifocal::kernels::cuda
