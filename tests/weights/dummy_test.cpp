#include "weights/dummy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace bifocal::weights {
namespace {

float at(const TensorView& view, int64_t i) {
  if (view.dtype == DType::bf16) return to_float(view.as<BFloat16>()[i]);
  if (view.dtype == DType::f16) return to_float(view.as<Float16>()[i]);
  return view.as<float>()[i];
}

std::vector<float> make(uint64_t seed, DType dtype, const std::string& name, std::vector<int64_t> shape,
                        int num_threads = 1) {
  ThreadPool pool(num_threads);
  DummyWeights weights(seed, dtype, pool);
  Tensor staging;
  const auto view = weights.read(name, shape, staging);
  EXPECT_TRUE(view.ok()) << view.status().message();
  std::vector<float> out;
  for (int64_t i = 0; i < view->num_elements(); ++i) out.push_back(at(*view, i));
  return out;
}

TEST(DummyWeights, MatricesKeepTheScaleOfActivations) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const int64_t k : {7, 64, 1000, 4096}) {
      const auto values = make(1, dtype, "w", {300, k});
      double sum = 0;
      double square = 0;
      for (const float v : values) {
        ASSERT_TRUE(std::isfinite(v));
        sum += v;
        square += double{v} * v;
      }
      const double deviation = std::sqrt(square / static_cast<double>(values.size()));
      const double wanted = 1.0 / std::sqrt(static_cast<double>(k));
      EXPECT_GT(deviation, wanted * 0.7) << to_string(dtype) << " " << k;
      EXPECT_LT(deviation, wanted * 1.45) << to_string(dtype) << " " << k;
      EXPECT_LT(std::abs(sum / static_cast<double>(values.size())), 5 * wanted / std::sqrt(values.size()));
    }
  }
}

TEST(DummyWeights, ValuesDependOnSeedAndNameAlone) {
  const auto values = make(1, DType::bf16, "a", {1000, 300});
  EXPECT_EQ(values, make(1, DType::bf16, "a", {1000, 300}, 4));
  EXPECT_NE(values, make(2, DType::bf16, "a", {1000, 300}));
  EXPECT_NE(values, make(1, DType::bf16, "b", {1000, 300}));
}

TEST(DummyWeights, NormsAreNearOneAndBiasesSmall) {
  for (const float v : make(3, DType::bf16, "model.norm.weight", {64})) EXPECT_NEAR(v, 1.0F, 0.26F);
  for (const float v : make(3, DType::f16, "q_proj.bias", {64})) EXPECT_NEAR(v, 0.0F, 0.03F);
}

TEST(DummyWeights, ReusesTheStagingMemory) {
  ThreadPool pool(1);
  DummyWeights weights(1, DType::f32, pool);
  Tensor staging;
  const auto large = weights.read("a", std::vector<int64_t>{10, 10}, staging);
  const auto small = weights.read("b", std::vector<int64_t>{3, 3}, staging);
  ASSERT_TRUE(large.ok() && small.ok());
  EXPECT_EQ(large->data, small->data);
  EXPECT_EQ(small->num_elements(), 9);
}

TEST(DummyWeights, OddSizesStayInside) {
  for (const int64_t n : {1, 2, 3, 5, 31, 33}) {
    EXPECT_EQ(make(1, DType::bf16, "w", {n, 1}).size(), static_cast<size_t>(n));
  }
}

TEST(DummyWeights, RefusesOtherTypes) {
  ThreadPool pool(1);
  DummyWeights weights(1, DType::i8, pool);
  Tensor staging;
  EXPECT_EQ(weights.read("a", std::vector<int64_t>{2, 2}, staging).status().code(), StatusCode::unsupported);
}

}  // namespace
}  // namespace bifocal::weights
