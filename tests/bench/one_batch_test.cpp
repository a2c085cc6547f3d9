#include "bench/one_batch.h"

#include <gtest/gtest.h>

namespace bifocal::bench {
namespace {

model::ModelSpec dense_spec() {
  model::ModelSpec spec;
  spec.vocab_size = 100;
  spec.hidden_size = 8;
  model::LayerSpec layer;
  layer.attention.num_heads = 2;
  layer.attention.num_kv_heads = 1;
  layer.attention.head_dim = 4;
  layer.mlp.intermediate_size = 10;
  spec.layers = {layer};
  return spec;
}

TEST(StepWork, DenseLayersAreReadOnceWhateverTheRows) {
  const model::ModelSpec spec = dense_spec();
  const double matrices = 8 * (16 + 8) + 3 * 8 * 10;
  const StepWork one = step_work(spec, DType::bf16, DType::f32, 1, 0, 0, 0);
  EXPECT_DOUBLE_EQ(one.bytes, 2 * matrices);
  EXPECT_DOUBLE_EQ(one.flops, 2 * matrices);
  const StepWork many = step_work(spec, DType::bf16, DType::f32, 50, 0, 0, 0);
  EXPECT_DOUBLE_EQ(many.bytes, 2 * matrices);
  EXPECT_DOUBLE_EQ(many.flops, 50 * 2 * matrices);
}

TEST(StepWork, OfExpertsOnlyTheChosenAreRead) {
  model::ModelSpec spec = dense_spec();
  model::MoeSpec moe;
  moe.num_experts = 16;
  moe.experts_per_token = 2;
  moe.intermediate_size = 5;
  moe.shared_intermediate_size = 3;
  spec.layers[0].mlp = {};
  spec.layers[0].moe = moe;
  const double expert = 3 * 8 * 5;
  const double always = 8 * (16 + 8) + 8 * 16 + 3 * 8 * 3;
  const StepWork one = step_work(spec, DType::f32, DType::f32, 1, 0, 0, 0);
  EXPECT_NEAR(one.bytes, 4 * (always + 2 * expert), 1e-6);
  EXPECT_NEAR(one.flops, 2 * (always + 2 * expert), 1e-6);
  // Two rows share an expert now and then; very many read them all, but multiply with two each.
  const StepWork two = step_work(spec, DType::f32, DType::f32, 2, 0, 0, 0);
  EXPECT_NEAR(two.bytes, 4 * (always + (4 - 2.0 * 2 / 16) * expert), 1e-6);
  const StepWork many = step_work(spec, DType::f32, DType::f32, 1000, 0, 0, 0);
  EXPECT_NEAR(many.bytes, 4 * (always + 16 * expert), 1e-6);
  EXPECT_NEAR(many.flops, 1000 * 2 * (always + 2 * expert), 1e-3);
}

}  // namespace
}  // namespace bifocal::bench
