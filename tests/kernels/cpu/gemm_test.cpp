#include "kernels/cpu/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/hash.h"
#include "kernels/cpu/cpu_isa_guard.h"
#include "kernels/cpu/isa.h"

namespace bifocal::kernels::cpu {
namespace {

std::vector<float> random_values(size_t n, uint64_t seed) {
  SplitMix64 rng(seed);
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(2.0 * rng.uniform() - 1.0);
  return out;
}

std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> out(values.size() * size_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) {
      std::memcpy(&out[i * 4], &values[i], 4);
    } else {
      const uint16_t bits = dtype == DType::f16 ? to_float16(values[i]).bits : to_bfloat16(values[i]).bits;
      std::memcpy(&out[i * 2], &bits, 2);
    }
  }
  return out;
}

TensorView matrix(void* data, DType dtype, int64_t n, int64_t k) {
  const int64_t shape[] = {n, k};
  return TensorView::contiguous(data, dtype, shape);
}

struct Scratch {
  explicit Scratch(size_t bytes) : values(bytes + 64) {}
  void* data() {
    void* p = values.data();
    size_t space = values.size();
    return std::align(64, space - 64, p, space);
  }
  std::vector<std::byte> values;
};

struct Weights {
  Weights(int64_t n, int64_t k, DType dtype, ThreadPool& pool, uint64_t seed)
      : values(random_values(static_cast<size_t>(n * k), seed)), bytes(encode(values, dtype)) {
    view = matrix(bytes.data(), dtype, n, k);
    auto result = PackedMatrix::pack(std::span(&view, 1), dtype, pool);
    EXPECT_TRUE(result.ok()) << result.status().message();
    packed = std::move(*result);
  }
  std::vector<float> values;
  std::vector<std::byte> bytes;
  TensorView view;
  PackedMatrix packed;
};

// C of [m, n] with m rows of a (row stride lda).
std::vector<float> multiply(const Weights& w, const float* a, int64_t lda, int64_t m, const float* bias,
                            const std::vector<float>* residual, ThreadPool& pool) {
  const int64_t ldc = w.packed.n() + 3;
  std::vector<float> c(static_cast<size_t>(std::max<int64_t>(m, 1) * ldc), -7.0F);
  if (residual != nullptr) c = *residual;
  Scratch scratch(gemm_scratch_bytes(m, w.packed.k(), w.packed.dtype()));
  GemmArgs args;
  args.a = a;
  args.lda = lda;
  args.m = m;
  args.w = &w.packed;
  args.bias = bias;
  args.c = c.data();
  args.ldc = ldc;
  args.accumulate = residual != nullptr;
  gemm(args, scratch.data(), pool);
  return c;
}

class Gemm : public testing::TestWithParam<std::tuple<Isa, DType>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  // Whether A is rounded to bf16 too, as PyTorch's bf16 layers do.
  bool rounds_a() const { return dtype() == DType::bf16 && (isa() == Isa::avx512_bf16 || isa() == Isa::amx); }

  CpuIsaGuard guard_{std::get<0>(GetParam())};
  ThreadPool pool_{3};
};

TEST_P(Gemm, AgreesWithTheReference) {
  struct Shape {
    int64_t m, n, k;
  };
  for (const auto [m, n, k] :
       {Shape{1, 1, 1}, Shape{1, 77, 33}, Shape{5, 16, 512}, Shape{13, 130, 1025}, Shape{34, 65, 31},
        Shape{70, 100, 600}, Shape{600, 33, 64}, Shape{3, 40, 3000}}) {
    SCOPED_TRACE(testing::Message() << "m " << m << " n " << n << " k " << k);
    Weights w(n, k, dtype(), pool_, 11);
    auto a = random_values(static_cast<size_t>(m * k), 12);
    if (rounds_a()) {
      for (float& v : a) v = to_float(to_bfloat16(v));
    }
    const auto bias = random_values(static_cast<size_t>(n), 13);
    std::vector<float> expected(static_cast<size_t>(m * n));
    gemm_reference(a.data(), m, w.view, bias.data(), expected.data());
    const auto c = multiply(w, a.data(), k, m, bias.data(), nullptr, pool_);
    // Sums of k products of size 1/3: rounding errors grow as sqrt(k) inside a chunk.
    const double bound = 1e-6 * std::sqrt(static_cast<double>(k)) + 1e-6;
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t column = 0; column < n; ++column) {
        const float got = c[static_cast<size_t>(row * (n + 3) + column)];
        ASSERT_NEAR(got, expected[static_cast<size_t>(row * n + column)], bound) << row << "," << column;
      }
      for (int64_t pad = n; pad < n + 3; ++pad) {
        ASSERT_EQ(c[static_cast<size_t>(row * (n + 3) + pad)], -7.0F) << "wrote beyond the row";
      }
    }
  }
}

TEST_P(Gemm, LongSumsKeepFloatAccuracy) {
  const int64_t k = 8192;
  Weights w(48, k, dtype(), pool_, 3);
  auto a = random_values(static_cast<size_t>(k), 4);
  if (rounds_a()) {
    for (float& v : a) v = to_float(to_bfloat16(v));
  }
  std::vector<float> expected(48);
  gemm_reference(a.data(), 1, w.view, nullptr, expected.data());
  float largest = 0.0F;
  for (const float v : expected) largest = std::max(largest, std::abs(v));
  const auto c = multiply(w, a.data(), k, 1, nullptr, nullptr, pool_);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(c[i], expected[i], 1e-6F * largest);
}

TEST_P(Gemm, ARowsBitsDependOnItselfAlone) {
  struct Shape {
    int64_t n, k;
  };
  ThreadPool one(1);
  for (const auto [n, k] : {Shape{51, 677}, Shape{130, 1100}}) {
    Weights w(n, k, dtype(), pool_, 21);
    const auto row = random_values(static_cast<size_t>(k), 22);
    const auto bias = random_values(static_cast<size_t>(n), 23);
    const auto old = random_values(static_cast<size_t>(n + 3), 24);
    for (const bool with_bias : {false, true}) {
      for (const bool accumulate : {false, true}) {
        const float* const b = with_bias ? bias.data() : nullptr;
        const auto alone = multiply(w, row.data(), k, 1, b, accumulate ? &old : nullptr, one);
        for (int64_t m = 1; m <= 70; ++m) {
          SplitMix64 rng(static_cast<uint64_t>(m));
          const auto position = static_cast<int64_t>(rng.below(static_cast<uint64_t>(m)));
          const int64_t lda = k + 5;
          auto a = random_values(static_cast<size_t>(m * lda), 100 + static_cast<uint64_t>(m));
          // Neighbours may hold anything, infinities and NaN included.
          if (m > 2) a[static_cast<size_t>((position == 0 ? 1 : 0) * lda)] = m % 2 == 0 ? NAN : INFINITY;
          std::copy(row.begin(), row.end(), a.begin() + position * lda);
          std::vector<float> residual = random_values(static_cast<size_t>(m * (n + 3)), 7);
          std::copy(old.begin(), old.end(), residual.begin() + position * (n + 3));
          const auto c =
              multiply(w, a.data(), lda, m, b, accumulate ? &residual : nullptr, m % 3 == 0 ? one : pool_);
          ASSERT_EQ(std::memcmp(&c[static_cast<size_t>(position * (n + 3))], alone.data(),
                                static_cast<size_t>(n) * sizeof(float)),
                    0)
              << "m " << m << " position " << position << " bias " << with_bias << " accumulate "
              << accumulate;
        }
      }
    }
  }
}

// Products of all shapes at once, more than one hand-over holds, some without rows.
TEST_P(Gemm, GroupedGivesTheBitsOfEachAlone) {
  struct Shape {
    int64_t m, n, k;
  };
  constexpr Shape kShapes[] = {{1, 200, 96}, {0, 16, 64}, {33, 130, 257},
                               {7, 64, 31},  {1, 1, 1},   {600, 40, 64}};
  std::vector<Weights> weights;
  std::vector<std::vector<float>> inputs, outputs, expected;
  const auto bias = random_values(200, 3);
  for (const auto [m, n, k] : kShapes) {
    const uint64_t seed = weights.size();
    weights.emplace_back(n, k, dtype(), pool_, seed);
    inputs.push_back(random_values(static_cast<size_t>(m * k), 50 + seed));
    expected.push_back(multiply(weights.back(), inputs.back().data(), k, m, bias.data(), nullptr, pool_));
  }
  ThreadPool one(1);
  for (const size_t repeats : {size_t{1}, size_t{30}}) {
    for (ThreadPool* pool : {&one, &pool_}) {
      std::vector<GemmArgs> products;
      int64_t rows = 0;
      outputs.clear();
      for (size_t i = 0; i < repeats * std::size(kShapes); ++i) {
        const size_t s = i % std::size(kShapes);
        outputs.emplace_back(expected[s].size(), -7.0F);
        GemmArgs args;
        args.a = inputs[s].data();
        args.lda = kShapes[s].k;
        args.m = kShapes[s].m;
        args.w = &weights[s].packed;
        args.bias = bias.data();
        args.ldc = kShapes[s].n + 3;
        products.push_back(args);
        rows += args.m;
      }
      for (size_t i = 0; i < products.size(); ++i) products[i].c = outputs[i].data();
      Scratch scratch(gemm_scratch_bytes(rows, 257, dtype()));
      gemm_grouped(products, scratch.data(), *pool);
      for (size_t i = 0; i < products.size(); ++i) {
        ASSERT_EQ(std::memcmp(outputs[i].data(), expected[i % std::size(kShapes)].data(),
                              outputs[i].size() * sizeof(float)),
                  0)
            << "product " << i << " of " << products.size();
      }
    }
  }
  gemm_grouped({}, nullptr, pool_);
}

TEST_P(Gemm, NoRowsIsLegal) {
  Weights w(5, 7, dtype(), pool_, 1);
  multiply(w, nullptr, 7, 0, nullptr, nullptr, pool_);
  EXPECT_EQ(gemm_scratch_bytes(0, 7, dtype()), 0U);
}

TEST_P(Gemm, UnpackRowGivesThePackedRow) {
  const int64_t n = 45;
  const int64_t k = 333;
  Weights w(n, k, dtype(), pool_, 31);
  std::vector<float> row(static_cast<size_t>(k) + 1, -3.0F);
  for (const int64_t i : {int64_t{0}, int64_t{17}, n - 1}) {
    w.packed.unpack_row(i, row.data());
    for (int64_t j = 0; j < k; ++j) {
      const float v = w.values[static_cast<size_t>(i * k + j)];
      const float expected = dtype() == DType::f32   ? v
                             : dtype() == DType::f16 ? to_float(to_float16(v))
                                                     : to_float(to_bfloat16(v));
      ASSERT_EQ(row[static_cast<size_t>(j)], expected) << i << "," << j;
    }
    ASSERT_EQ(row.back(), -3.0F);
  }
}

TEST_P(Gemm, PackConcatenatesAndConvertsUnalignedSources) {
  const int64_t k = 131;
  const DType types[] = {DType::f32, DType::bf16, DType::f16};
  const int64_t heights[] = {3, 18, 1};
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::vector<float>> values;
  std::vector<TensorView> views;
  for (size_t i = 0; i < 3; ++i) {
    values.push_back(random_values(static_cast<size_t>(heights[i] * k), 40 + i));
    const auto bytes = encode(values[i], types[i]);
    storage.emplace_back(bytes.size() + 1);
    std::memcpy(storage[i].data() + 1, bytes.data(), bytes.size());  // an odd address, as in a mapped file
    views.push_back(matrix(storage[i].data() + 1, types[i], heights[i], k));
  }
  auto packed = PackedMatrix::pack(views, dtype(), pool_);
  ASSERT_TRUE(packed.ok()) << packed.status().message();
  EXPECT_EQ(packed->n(), 22);
  EXPECT_EQ(packed->k(), k);
  std::vector<float> row(static_cast<size_t>(k));
  const auto through = [](float v, DType type) {
    if (type == DType::f16) return to_float(to_float16(v));
    if (type == DType::bf16) return to_float(to_bfloat16(v));
    return v;
  };
  int64_t n = 0;
  for (size_t i = 0; i < 3; ++i) {
    for (int64_t r = 0; r < heights[i]; ++r, ++n) {
      packed->unpack_row(n, row.data());
      for (int64_t j = 0; j < k; ++j) {
        const float v = values[i][static_cast<size_t>(r * k + j)];
        ASSERT_EQ(row[static_cast<size_t>(j)], through(through(v, types[i]), dtype())) << n << "," << j;
      }
    }
  }
}

// Every other column of a [K, 2 N] matrix, as fused projections are stored.
TEST_P(Gemm, PackTakesAnyStrides) {
  const int64_t n = 21;
  const int64_t k = 300;
  const auto values = random_values(static_cast<size_t>(k * 2 * n), 61);
  const auto bytes = encode(values, dtype());
  std::vector<std::byte> storage(bytes.size() + 1);
  std::memcpy(storage.data() + 1, bytes.data(), bytes.size());  // an odd address, as in a mapped file
  std::vector<TensorView> views;
  for (const size_t first : {size_t{0}, size_t{1}}) {
    TensorView view = matrix(storage.data() + 1 + first * size_of(dtype()), dtype(), n, k);
    view.strides = {2, 2 * n};
    views.push_back(view);
  }
  for (const DType to : {dtype(), DType::f32}) {
    auto packed = PackedMatrix::pack(views, to, pool_);
    ASSERT_TRUE(packed.ok()) << packed.status().message();
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t i = 0; i < 2 * n; ++i) {
      packed->unpack_row(i, row.data());
      for (int64_t j = 0; j < k; ++j) {
        const float v = values[static_cast<size_t>(j * 2 * n + i % n * 2 + i / n)];
        const float expected = dtype() == DType::f32   ? v
                               : dtype() == DType::f16 ? to_float(to_float16(v))
                                                       : to_float(to_bfloat16(v));
        ASSERT_EQ(row[static_cast<size_t>(j)], expected) << i << "," << j;
      }
    }
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<Isa, DType>>& info) {
  return std::string(to_string(std::get<0>(info.param))) + "_" +
         std::string(to_string(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(All, Gemm,
                         testing::Combine(testing::ValuesIn(supported_isas()),
                                          testing::Values(DType::f32, DType::f16, DType::bf16)),
                         name_of);

TEST(GemmPack, RefusesWhatItCannotPack) {
  ThreadPool pool(1);
  std::vector<float> data(64);
  const TensorView good = matrix(data.data(), DType::f32, 4, 8);
  const TensorView other_k = matrix(data.data(), DType::f32, 4, 7);
  const TensorView empty = matrix(data.data(), DType::f32, 0, 8);
  const TensorView integers = matrix(data.data(), DType::i32, 4, 8);
  const TensorView huge = matrix(data.data(), DType::f32, int64_t{1} << 61, int64_t{1} << 2);
  TensorView vector = good;
  vector.rank = 1;
  const auto code = [&](std::vector<TensorView> views, DType dtype = DType::f32) {
    return PackedMatrix::pack(views, dtype, pool).status().code();
  };
  EXPECT_EQ(code({good, good}), StatusCode::ok);
  EXPECT_EQ(code({}), StatusCode::invalid_argument);
  EXPECT_EQ(code({good, other_k}), StatusCode::invalid_argument);
  EXPECT_EQ(code({empty}), StatusCode::invalid_argument);
  EXPECT_EQ(code({integers}), StatusCode::invalid_argument);
  EXPECT_EQ(code({huge}), StatusCode::invalid_argument);
  EXPECT_EQ(code({vector}), StatusCode::invalid_argument);
  EXPECT_EQ(code({good}, DType::i8), StatusCode::invalid_argument);
  const TensorView beyond_memory = matrix(data.data(), DType::f32, int64_t{1} << 35, int64_t{1} << 20);
  EXPECT_NE(code({beyond_memory}), StatusCode::ok);
}

TEST(GemmPack, AMatrixStaysWithTheKernelItWasPackedFor) {
  ThreadPool pool(1);
  const auto a = random_values(64, 5);
  std::vector<float> first;
  for (const Isa isa : supported_isas()) {
    CpuIsaGuard guard(isa);
    Weights w(20, 64, DType::f32, pool, 6);
    CpuIsaGuard plain(Isa::scalar);
    const auto c = multiply(w, a.data(), 64, 1, nullptr, nullptr, pool);
    if (first.empty()) first = c;
    for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(c[i], first[i], 1e-5);
  }
}

}  // namespace
}  // namespace bifocal::kernels::cpu
