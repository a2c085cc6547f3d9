#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace bifocal {
namespace {

TEST(Tensor, IsAlignedZeroedAndRowMajor) {
  const auto tensor = Tensor::allocate(DType::f32, {3, 5, 7});
  ASSERT_TRUE(tensor.ok());
  const TensorView& view = tensor->view();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0U);
  EXPECT_EQ(view.num_elements(), 105);
  EXPECT_EQ(view.num_bytes(), 420U);
  EXPECT_EQ(view.strides[0], 35);
  EXPECT_EQ(view.strides[2], 1);
  for (int i = 0; i < 105; ++i) EXPECT_EQ(view.as<float>()[i], 0.0F);
  EXPECT_EQ(to_string(view), "f32[3,5,7]");
}

// Who checks a file's shapes makes a view first.
TEST(Tensor, ViewsOfImpossibleShapesHaveStrides) {
  const int64_t shape[] = {int64_t{1} << 61, 4};
  const auto view = TensorView::contiguous(nullptr, DType::f32, shape);
  EXPECT_EQ(view.strides[0], 4);
  EXPECT_EQ(view.strides[1], 1);
}

TEST(Tensor, RefusesShapesThatDoNotFit) {
  EXPECT_FALSE(Tensor::allocate(DType::f32, {int64_t{1} << 40, int64_t{1} << 40}).ok());
  EXPECT_FALSE(Tensor::allocate(DType::f32, {-1}).ok());
  EXPECT_FALSE(Tensor::allocate(DType::f32, {1, 1, 1, 1, 1, 1}).ok());
  EXPECT_FALSE(Tensor::allocate(DType::f32, {1}, Device{DeviceKind::cuda, 0}).ok());
  EXPECT_TRUE(Tensor::allocate(DType::f32, {0}).ok());
}

}  // namespace
}  // namespace bifocal
