#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/hash.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/simd_functions.h"
#include "tensor/dtype.h"

namespace bifocal::kernels::cpu {
namespace {

struct Named {
  const char* name;
  const SimdFunctions* functions;
};
std::vector<Named> all() {
  std::vector<Named> out = {{"scalar", &kSimdScalar}};
#if defined(__x86_64__)
  if (is_supported(Isa::avx2)) out.push_back({"avx2", &kSimdAvx2});
  if (is_supported(Isa::avx512)) out.push_back({"avx512", &kSimdAvx512});
#endif
  return out;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Simd, ExpIsCloseToDouble) {
  for (const auto& [name, f] : all()) {
    double worst = 0.0;
    std::array<float, 16> x{};
    std::array<float, 16> y{};
    const int64_t steps = 400000;
    for (int64_t i = 0; i < steps; i += f->lanes) {
      for (int64_t j = 0; j < f->lanes; ++j) {
        x[static_cast<size_t>(j)] =
            static_cast<float>(-87.3 + 176.0 * static_cast<double>(i + j) / static_cast<double>(steps));
      }
      f->exp(x.data(), y.data());
      for (int64_t j = 0; j < f->lanes; ++j) {
        const double expected = std::exp(static_cast<double>(x[static_cast<size_t>(j)]));
        worst = std::max(worst, std::abs(static_cast<double>(y[static_cast<size_t>(j)]) / expected - 1.0));
      }
    }
    EXPECT_LT(worst, 1.5e-7) << name;
  }
}

TEST(Simd, ExpAtTheEnds) {
  for (const auto& [name, f] : all()) {
    const auto at = [&](float v) {
      std::array<float, 16> x{};
      x.fill(v);
      f->exp(x.data(), x.data());
      return x[0];
    };
    EXPECT_EQ(at(0.0F), 1.0F) << name;
    EXPECT_EQ(at(-kInfinity), 0.0F) << name;
    EXPECT_EQ(at(-1e30F), 0.0F) << name;
    EXPECT_EQ(at(kInfinity), kInfinity) << name;
    EXPECT_EQ(at(200.0F), kInfinity) << name;
    EXPECT_TRUE(std::isnan(at(NAN))) << name;
    EXPECT_NEAR(at(-95.0F) / std::exp(-95.0), 1.0, 2e-3) << name << ": a subnormal";
  }
}

TEST(Simd, LanesAndPartialAccess) {
  for (const auto& [name, f] : all()) {
    const auto lanes = static_cast<size_t>(f->lanes);
    std::array<float, 16> x{};
    float total = 0.0F;
    for (size_t i = 0; i < lanes; ++i) {
      x[i] = static_cast<float>((i * 7) % 13) - 5.0F;
      total += x[i];
    }
    EXPECT_EQ(f->sum(x.data()), total) << name;
    EXPECT_EQ(f->max_lane(x.data()), *std::max_element(x.begin(), x.begin() + f->lanes)) << name;
    std::array<float, 16> y{};
    f->swap_pairs(x.data(), y.data());
    for (size_t i = 0; i < lanes; ++i) EXPECT_EQ(y[i], x[i ^ 1U]) << name;
    for (size_t n = 0; n <= lanes; ++n) {
      const std::vector<float> exact(x.begin(),
                                     x.begin() + static_cast<int64_t>(n));  // reads beyond show in ASan
      std::vector<float> source = exact;
      source.resize(lanes, 9.0F);
      std::array<float, 16> loaded{};
      std::array<float, 16> stored{};
      stored.fill(-1.0F);
      f->copy_first(source.data(), static_cast<int64_t>(n), loaded.data(), stored.data());
      for (size_t i = 0; i < lanes; ++i) {
        EXPECT_EQ(loaded[i], i < n ? x[i] : 0.0F) << name;
        EXPECT_EQ(stored[i], i < n ? x[i] : -1.0F) << name;
      }
    }
  }
}

void expect_same(float got, float expected, const char* name, uint32_t bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << name << " " << bits;
  } else {
    EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << name << " " << bits;
  }
}

TEST(Simd, SixteenBitLoadsAreExactForEveryValue) {
  for (const auto& [name, f] : all()) {
    const auto lanes = static_cast<uint32_t>(f->lanes);
    for (uint32_t base = 0; base < 65536; base += lanes) {
      std::array<uint16_t, 32> bits{};
      for (uint32_t i = 0; i < 2 * lanes; ++i) bits[i] = static_cast<uint16_t>(base + i);
      std::array<float, 16> half{};
      std::array<float, 16> brain{};
      std::array<float, 16> even{};
      std::array<float, 16> odd{};
      f->from_f16(bits.data(), half.data());
      f->from_bf16(bits.data(), brain.data());
      f->from_bf16_pairs(bits.data(), even.data(), odd.data());
      for (uint32_t i = 0; i < lanes; ++i) {
        expect_same(half[i], to_float(Float16{bits[i]}), name, bits[i]);
        expect_same(brain[i], to_float(BFloat16{bits[i]}), name, bits[i]);
        expect_same(even[i], to_float(BFloat16{bits[2 * i]}), name, bits[2 * i]);
        expect_same(odd[i], to_float(BFloat16{bits[2 * i + 1]}), name, bits[2 * i + 1]);
      }
    }
  }
}

// From the definition: 1 sign, 4 exponent bits of bias 7, 3 mantissa bits.
float e4m3_by_definition(uint32_t bits) {
  const uint32_t exponent = (bits >> 3) & 0xfU;
  const uint32_t mantissa = bits & 7U;
  const double sign = (bits & 0x80U) != 0 ? -1.0 : 1.0;
  if (exponent == 15 && mantissa == 7) return NAN;
  if (exponent == 0) return static_cast<float>(sign * mantissa / 8.0 * std::exp2(-6));
  return static_cast<float>(sign * (1.0 + mantissa / 8.0) * std::exp2(static_cast<int>(exponent) - 7));
}

TEST(Simd, EightBitLoadsAreExactForEveryValue) {
  for (const auto& [name, f] : all()) {
    const auto lanes = static_cast<uint32_t>(f->lanes);
    for (uint32_t base = 0; base < 256; base += lanes) {
      std::array<uint8_t, 16> bits{};
      for (uint32_t i = 0; i < lanes; ++i) bits[i] = static_cast<uint8_t>(base + i);
      std::array<float, 16> out{};
      f->from_f8_e4m3(bits.data(), out.data());
      for (uint32_t i = 0; i < lanes; ++i) expect_same(out[i], e4m3_by_definition(base + i), name, base + i);
    }
  }
}

}  // namespace
}  // namespace bifocal::kernels::cpu
