#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/hash.h"
#include "kernels/cpu/cpu_isa_guard.h"
#include "kernels/cpu/isa.h"

namespace bifocal::kernels::cpu {
namespace {

std::vector<float> random_values(size_t n, uint64_t seed, double scale = 1.0) {
  SplitMix64 rng(seed);
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(scale * (2.0 * rng.uniform() - 1.0));
  return out;
}

class Elementwise : public testing::TestWithParam<Isa> {
 protected:
  CpuIsaGuard guard_{GetParam()};
  ThreadPool one_{1};
  ThreadPool three_{3};
};

TEST_P(Elementwise, RmsNormMatchesDouble) {
  for (const int64_t dim : {1, 5, 16, 64, 127, 1024, 3001}) {
    const int64_t rows = 21;
    const int64_t x_stride = dim + 7;
    const int64_t y_stride = dim + 2;
    const auto x = random_values(static_cast<size_t>(rows * x_stride), 1, 3.0);
    const auto w = random_values(static_cast<size_t>(dim), 2);
    std::vector<float> y(static_cast<size_t>(rows * y_stride), 5.0F);
    rms_norm(x.data(), x_stride, w.data(), 1e-6F, rows, dim, y.data(), y_stride, three_);
    for (int64_t t = 0; t < rows; ++t) {
      double sum = 0.0;
      for (int64_t i = 0; i < dim; ++i)
        sum += std::pow(static_cast<double>(x[static_cast<size_t>(t * x_stride + i)]), 2);
      const double scale = 1.0 / std::sqrt(sum / static_cast<double>(dim) + static_cast<double>(1e-6F));
      for (int64_t i = 0; i < dim; ++i) {
        const double expected = static_cast<double>(x[static_cast<size_t>(t * x_stride + i)]) * scale *
                                static_cast<double>(w[static_cast<size_t>(i)]);
        ASSERT_NEAR(y[static_cast<size_t>(t * y_stride + i)], expected, 6e-7 * std::abs(expected) + 1e-30);
      }
      for (int64_t i = dim; i < y_stride; ++i) ASSERT_EQ(y[static_cast<size_t>(t * y_stride + i)], 5.0F);
    }
  }
}

TEST_P(Elementwise, RmsNormInPlaceAndRowByRowGivesTheSameBits) {
  const int64_t dim = 333;
  const int64_t rows = 150;
  auto x = random_values(static_cast<size_t>(rows * dim), 3);
  const auto w = random_values(static_cast<size_t>(dim), 4);
  std::vector<float> together(x.size());
  rms_norm(x.data(), dim, w.data(), 1e-5F, rows, dim, together.data(), dim, three_);
  for (int64_t t = 0; t < rows; ++t) {
    float* const row = x.data() + t * dim;
    rms_norm(row, dim, w.data(), 1e-5F, 1, dim, row, dim, one_);
  }
  EXPECT_EQ(std::memcmp(x.data(), together.data(), x.size() * sizeof(float)), 0);
}

std::vector<float> default_inv_freq(int rotary_dim, double base) {
  std::vector<float> out;
  for (int i = 0; i < rotary_dim; i += 2)
    out.push_back(static_cast<float>(std::pow(base, -static_cast<double>(i) / rotary_dim)));
  return out;
}

struct RopeCase {
  int head_dim;
  int rotary_dim;
  RopeStyle style;
};

TEST_P(Elementwise, RopeMatchesDouble) {
  const std::vector<int32_t> positions = {0, 1, 2, 511, 4097, 131071, 1048575, 40000000};
  for (const auto& [head_dim, rotary_dim, style] :
       {RopeCase{64, 64, RopeStyle::half}, RopeCase{128, 128, RopeStyle::interleaved},
        RopeCase{80, 32, RopeStyle::half}, RopeCase{10, 6, RopeStyle::interleaved},
        RopeCase{600, 600, RopeStyle::half}, RopeCase{600, 520, RopeStyle::interleaved},
        RopeCase{2, 2, RopeStyle::half}}) {
    const int heads = 3;
    const int64_t stride = heads * head_dim + 5;
    const auto x = random_values(positions.size() * static_cast<size_t>(stride), 7);
    auto y = x;
    const auto inv_freq = default_inv_freq(rotary_dim, 10000.0);
    RopeArgs args;
    args.x = y.data();
    args.x_stride = stride;
    args.num_heads = heads;
    args.head_dim = head_dim;
    args.rotary_dim = rotary_dim;
    args.style = style;
    args.inv_freq = inv_freq;
    args.attention_factor = 1.25F;
    args.positions = positions.data();
    args.num_tokens = static_cast<int64_t>(positions.size());
    rope(args, three_);
    auto expected = std::vector<double>(x.begin(), x.end());
    for (size_t t = 0; t < positions.size(); ++t) {
      for (int h = 0; h < heads; ++h) {
        for (int i = 0; i < rotary_dim / 2; ++i) {
          const double angle =
              static_cast<double>(positions[t]) * static_cast<double>(inv_freq[static_cast<size_t>(i)]);
          const size_t head = t * static_cast<size_t>(stride) + static_cast<size_t>(h * head_dim);
          const size_t first = head + static_cast<size_t>(style == RopeStyle::half ? i : 2 * i);
          const size_t second =
              head + static_cast<size_t>(style == RopeStyle::half ? i + rotary_dim / 2 : 2 * i + 1);
          const double a = static_cast<double>(x[first]);
          const double b = static_cast<double>(x[second]);
          expected[first] = 1.25 * (a * std::cos(angle) - b * std::sin(angle));
          expected[second] = 1.25 * (b * std::cos(angle) + a * std::sin(angle));
        }
      }
    }
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_NEAR(y[i], expected[i], 4e-7)
          << "head_dim " << head_dim << " rotary_dim " << rotary_dim << " at " << i;
    }
    // Token by token, the bits are the same.
    auto alone = x;
    for (size_t t = 0; t < positions.size(); ++t) {
      args.x = alone.data() + t * static_cast<size_t>(stride);
      args.positions = &positions[t];
      args.num_tokens = 1;
      rope(args, one_);
    }
    EXPECT_EQ(std::memcmp(alone.data(), y.data(), y.size() * sizeof(float)), 0);
  }
}

TEST_P(Elementwise, SiluMulMatchesDouble) {
  for (const int64_t dim : {1, 15, 16, 17, 1000}) {
    const int64_t rows = 40;
    const int64_t in_stride = 2 * dim + 3;
    const int64_t out_stride = dim + 1;
    auto x = random_values(static_cast<size_t>(rows * in_stride), 9, 30.0);
    x[0] = 80.0F;
    x[static_cast<size_t>(in_stride)] = -80.0F;
    std::vector<float> y(static_cast<size_t>(rows * out_stride), 5.0F);
    silu_mul(x.data(), in_stride, rows, dim, y.data(), out_stride, three_);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t i = 0; i < dim; ++i) {
        const auto gate = static_cast<double>(x[static_cast<size_t>(t * in_stride + i)]);
        const auto up = static_cast<double>(x[static_cast<size_t>(t * in_stride + dim + i)]);
        const double expected = gate / (1.0 + std::exp(-gate)) * up;
        ASSERT_NEAR(y[static_cast<size_t>(t * out_stride + i)], expected, 3.5e-7 * std::abs(expected))
            << gate;
      }
      ASSERT_EQ(y[static_cast<size_t>(t * out_stride + dim)], 5.0F);
    }
  }
}

TEST_P(Elementwise, ClampedSwigluMatchesDouble) {
  const double limit = 1.5;
  for (const int64_t dim : {1, 5, 16, 333}) {
    const int64_t rows = 21;
    const int64_t in_stride = 2 * dim + 3;
    const int64_t out_stride = dim + 1;
    const auto x = random_values(static_cast<size_t>(rows * in_stride), 7, 4.0);
    std::vector<float> y(static_cast<size_t>(rows * out_stride), 5.0F);
    clamped_swiglu(x.data(), in_stride, rows, dim, 1.5F, y.data(), out_stride, three_);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t i = 0; i < dim; ++i) {
        const double gate = std::min<double>(x[static_cast<size_t>(t * in_stride + i)], limit);
        const double up = std::clamp<double>(x[static_cast<size_t>(t * in_stride + dim + i)], -limit, limit);
        const double expected = (up + 1.0) * gate / (1.0 + std::exp(-1.702 * gate));
        ASSERT_NEAR(y[static_cast<size_t>(t * out_stride + i)], expected, 1e-6);
      }
      ASSERT_EQ(y[static_cast<size_t>(t * out_stride + dim)], 5.0F);
    }
  }
}

// Values of the published activation at limit 7.
TEST_P(Elementwise, ClampedSwigluAnchors) {
  const float gate_up[] = {1, 1, 10, -10, -1, NAN, 0, 1, 10, -10, 2, 0};
  const double expected[] = {0.845795765933, 1.691591531866, 55.999625026427, 2.434777e-06, -0.462612702202};
  float out[6] = {};
  clamped_swiglu(gate_up, 12, 1, 6, 7.0F, out, 6, one_);
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_NEAR(out[i], expected[i], 1e-6 * std::abs(expected[i])) << i;
  }
  EXPECT_TRUE(std::isnan(out[5]));
}

TEST_P(Elementwise, SiluOfExtremesIsFinite) {
  const float gate_up[] = {-1000.0F, -std::numeric_limits<float>::max(), 1000.0F, 1.0F, 1.0F, 1.0F};
  float out[3] = {};
  silu_mul(gate_up, 6, 1, 3, out, 3, one_);
  EXPECT_EQ(out[0], 0.0F);
  EXPECT_EQ(out[1], 0.0F);
  EXPECT_EQ(out[2], 1000.0F);
}

// The nearest representable value by search, ties to the even code; the oracle for all small formats.
template <class Decode>
uint32_t nearest_code(float v, uint32_t num_codes, Decode decode) {
  const double magnitude = std::abs(static_cast<double>(v));
  uint32_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (uint32_t code = 0; code < num_codes; ++code) {
    const double distance = std::abs(static_cast<double>(decode(code)) - magnitude);
    if (distance < best_distance || (distance == best_distance && code % 2 == 0)) {
      best = code;
      best_distance = distance;
    }
  }
  return best;
}

float e4m3(uint32_t code) {
  const uint32_t exponent = code >> 3;
  const double mantissa = (code & 7U) / 8.0;
  return static_cast<float>(exponent == 0 ? std::ldexp(mantissa, -6)
                                          : std::ldexp(1.0 + mantissa, static_cast<int>(exponent) - 7));
}

struct Cache {
  Cache(DType dtype_in, int pages, int page_size, int heads, int dk, int dv)
      : k(static_cast<size_t>(pages * page_size * heads * dk) * size_of(dtype_in), std::byte{0xee}),
        v(static_cast<size_t>(pages * page_size * heads * dv) * size_of(dtype_in), std::byte{0xee}) {
    view.k = k.data();
    view.v = v.data();
    view.dtype = dtype_in;
    view.num_kv_heads = heads;
    view.head_dim_k = dk;
    view.head_dim_v = dv;
    view.page_size = page_size;
    view.k_token_stride = dk;
    view.v_token_stride = dv;
    view.k_head_stride = page_size * dk;
    view.v_head_stride = page_size * dv;
    view.k_page_stride = heads * page_size * dk;
    view.v_page_stride = heads * page_size * dv;
  }
  std::vector<std::byte> k;
  std::vector<std::byte> v;
  PagedKv view;
};

template <class T>
T element(const std::vector<std::byte>& bytes, int64_t at) {
  T value;
  std::memcpy(&value, &bytes[static_cast<size_t>(at) * sizeof(T)], sizeof(T));
  return value;
}

TEST_P(Elementwise, WriteKvPutsEachRowInItsSlot) {
  const int heads = 2;
  const int dk = 19;
  const int dv = 8;
  const std::vector<int64_t> slots = {7, 0, 11, 4};  // page size 4: pages 1, 0, 2, 1
  const auto k = random_values(slots.size() * 50, 1);
  const auto v = random_values(slots.size() * 20, 2);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Cache cache(dtype, 3, 4, heads, dk, dv);
    write_kv(k.data(), 50, v.data(), 20, slots.data(), static_cast<int64_t>(slots.size()), cache.view,
             three_);
    size_t untouched = cache.k.size() / size_of(dtype);
    for (size_t t = 0; t < slots.size(); ++t) {
      const int64_t page = slots[t] / 4;
      const int64_t slot = slots[t] % 4;
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < dk; ++d) {
          const float x = k[t * 50 + static_cast<size_t>(h * dk + d)];
          const int64_t at = page * cache.view.k_page_stride + h * cache.view.k_head_stride + slot * dk + d;
          --untouched;
          if (dtype == DType::f32) {
            ASSERT_EQ(element<float>(cache.k, at), x);
          } else if (dtype == DType::f16) {
            ASSERT_EQ(element<uint16_t>(cache.k, at), to_float16(x).bits);
          } else {
            ASSERT_EQ(element<uint16_t>(cache.k, at), to_bfloat16(x).bits);
          }
        }
        for (int64_t d = 0; d < dv; ++d) {
          const float x = v[t * 20 + static_cast<size_t>(h * dv + d)];
          const int64_t at = page * cache.view.v_page_stride + h * cache.view.v_head_stride + slot * dv + d;
          if (dtype == DType::f32) {
            ASSERT_EQ(element<float>(cache.v, at), x);
          } else if (dtype == DType::f16) {
            ASSERT_EQ(element<uint16_t>(cache.v, at), to_float16(x).bits);
          } else {
            ASSERT_EQ(element<uint16_t>(cache.v, at), to_bfloat16(x).bits);
          }
        }
      }
    }
    size_t poison = 0;
    for (size_t i = 0; i < cache.k.size(); i += size_of(dtype)) {
      bool all = true;
      for (size_t b = 0; b < size_of(dtype); ++b) all = all && cache.k[i + b] == std::byte{0xee};
      poison += all ? 1 : 0;
    }
    EXPECT_EQ(poison, untouched) << "wrote to slots that were not named";
  }
}

// One token whose head holds `values`, through the cache.
template <class T>
std::vector<T> convert(const std::vector<float>& values, DType dtype, ThreadPool& pool) {
  const int n = static_cast<int>(values.size());
  Cache cache(dtype, 1, 1, 1, n, 1);
  const int64_t slot = 0;
  const float v = 0.0F;
  write_kv(values.data(), n, &v, 1, &slot, 1, cache.view, pool);
  std::vector<T> out(values.size());
  std::memcpy(out.data(), cache.k.data(), out.size() * sizeof(T));
  return out;
}

std::vector<float> awkward_values(double scale) {
  auto values = random_values(20000, 77, scale);
  for (size_t i = 0; i < values.size(); i += 2) {  // many magnitudes, and exact ties between neighbours
    values[i] = static_cast<float>(std::ldexp(static_cast<double>(values[i]), -static_cast<int>(i % 40)));
  }
  for (const float v : {0.0F, -0.0F, 1e-45F, -1e-39F, 3e38F, -3e38F}) values.push_back(v);
  return values;
}

TEST_P(Elementwise, WriteKvRoundsF8ToNearestEvenAndSaturates) {
  auto values = awkward_values(500.0);
  for (uint32_t code = 0; code < 126; ++code) {
    const float tie = (e4m3(code) + e4m3(code + 1)) / 2;
    values.insert(values.end(),
                  {e4m3(code), tie, -tie, std::nextafter(tie, 0.0F), std::nextafter(tie, 1e9F)});
  }
  values.insert(values.end(), {448.0F, 464.0F, 1e30F, -449.0F, std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity()});
  const auto codes = convert<uint8_t>(values, DType::f8_e4m3, one_);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t expected = nearest_code(values[i], 127, e4m3) | (std::signbit(values[i]) ? 0x80U : 0U);
    ASSERT_EQ(codes[i], expected) << values[i];
  }
  const auto nan = convert<uint8_t>({NAN, -NAN}, DType::f8_e4m3, one_);
  EXPECT_EQ(nan[0] & 0x7fU, 0x7fU);
  EXPECT_EQ(nan[1] & 0x7fU, 0x7fU);
}

TEST_P(Elementwise, WriteKvRoundsSixteenBitsAsTheScalarConversions) {
  auto values = awkward_values(70000.0);
  values.insert(values.end(),
                {65504.0F, 65519.9F, 65520.0F, -65520.0F, std::numeric_limits<float>::infinity(), 6e-8F,
                 2.98e-8F, 2.99e-8F, std::ldexp(3.0F, -25)});
  const auto half = convert<uint16_t>(values, DType::f16, one_);
  const auto brain = convert<uint16_t>(values, DType::bf16, one_);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(half[i], to_float16(values[i]).bits) << values[i];
    ASSERT_EQ(brain[i], to_bfloat16(values[i]).bits) << values[i];
  }
  const auto nan_half = convert<uint16_t>({NAN}, DType::f16, one_);
  const auto nan_brain = convert<uint16_t>({std::bit_cast<float>(0x7f800001U)}, DType::bf16, one_);
  EXPECT_TRUE(std::isnan(to_float(Float16{nan_half[0]})));
  EXPECT_TRUE(std::isnan(to_float(BFloat16{nan_brain[0]})));
}

TEST_P(Elementwise, NoRowsIsLegal) {
  rms_norm(nullptr, 0, nullptr, 1e-6F, 0, 64, nullptr, 0, three_);
  silu_mul(nullptr, 0, 0, 64, nullptr, 0, three_);
  RopeArgs args;
  rope(args, three_);
  write_kv(nullptr, 0, nullptr, 0, nullptr, 0, PagedKv{}, three_);
}

INSTANTIATE_TEST_SUITE_P(All, Elementwise, testing::ValuesIn(supported_isas()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace bifocal::kernels::cpu
