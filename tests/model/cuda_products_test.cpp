#include "model/cuda_products.h"

#include <gtest/gtest.h>

namespace bifocal::model {
namespace {

using kernels::cuda::LinearProduct;

ModelSpec spec_of(int hidden, int heads, int inner) {
  ModelSpec spec;
  spec.hidden_size = hidden;
  spec.vocab_size = 1000;
  LayerSpec layer;
  layer.attention.num_heads = heads;
  layer.attention.num_kv_heads = 2;
  layer.attention.head_dim = 64;
  layer.mlp.intermediate_size = inner;
  spec.layers.assign(3, layer);
  return spec;
}

std::vector<LinearProduct> shapes(const std::vector<CudaProduct>& products) {
  std::vector<LinearProduct> out;
  for (const CudaProduct& product : products) out.push_back(product.product);
  return out;
}

TEST(CudaProducts, EachShapeOnceAndTheOutputMatrixLast) {
  const auto products = cuda_products(spec_of(512, 4, 1536), 2048, 64);
  EXPECT_EQ(shapes(products), (std::vector<LinearProduct>{{2048, 512, 512, false, false, DType::bf16},
                                                          {2048, 3072, 512, true, false, DType::bf16},
                                                          {2048, 512, 1536, false, false, DType::bf16},
                                                          {2048, 512, 256, false, false, DType::bf16},
                                                          {64, 1000, 512, false, false, DType::f32}}));
  EXPECT_EQ(products[0].names, (std::vector<std::string>{"qkv"}));
  EXPECT_EQ(products[3].names, (std::vector<std::string>{"o"}));
}

TEST(CudaProducts, ProductsOfOneShapeShareIt) {
  // q rows as many as hidden and as the MLP's.
  const auto products = cuda_products(spec_of(512, 8, 512), 2048, 64);
  ASSERT_EQ(products.size(), 4U);
  EXPECT_EQ(products[2].names, (std::vector<std::string>{"down", "o"}));
}

TEST(CudaProducts, BiasesOfTheOutputAndOfTheMlpAreTheProducts) {
  ModelSpec spec = spec_of(512, 4, 1536);
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qkv_bias = true;  // added behind the product
    layer.attention.output_bias = true;
    layer.mlp.bias = true;
  }
  const auto products = cuda_products(spec, 8, 8);
  ASSERT_EQ(products.size(), 5U);
  EXPECT_FALSE(products[0].product.bias);
  for (size_t i = 1; i < 4; ++i) EXPECT_TRUE(products[i].product.bias) << products[i].names[0];
  EXPECT_FALSE(products[4].product.bias);
}

}  // namespace
}  // namespace bifocal::model
