#include "bench/mixed_step.h"

#include <gtest/gtest.h>

#include "engine/bundled_model.h"

namespace bifocal::bench {
namespace {

TEST(MixedStep, MeasuresTheBundledModel) {
  MixedStepOptions options;
  options.shapes = {{4, 20, 70, 3}, {2, 5, 10, 2}};
  options.repeats = 2;
  options.engine.chunked_prefill_size = 32;
  options.engine.kv_dtype = DType::bf16;
  options.engine.pool = std::make_shared<ThreadPool>(2);
  int runs = 0;
  options.on_run = [&runs] { ++runs; };
  const auto model = engine::bundled_model(options.engine);
  ASSERT_NE(model, nullptr);
  const auto rows = run_mixed_step(*model, options);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  ASSERT_EQ(rows->size(), 6U);
  EXPECT_EQ(runs, 12);
  for (size_t shape = 0; shape < 2; ++shape) {
    int best = 0;
    for (size_t b = 0; b < 3; ++b) {
      const MixedStepRow& row = (*rows)[3 * shape + b];
      EXPECT_EQ(row.backends, options.backends[b]);
      EXPECT_EQ(row.shape.prompt_len, options.shapes[shape].prompt_len);
      EXPECT_GT(row.tokens_per_s.median, 0);
      EXPECT_GT(row.ttft_s.median, 0);
      EXPECT_GT(row.itl_p50_s.median, 0);
      EXPECT_GE(row.itl_p99_s.median, row.itl_p50_s.median);
      EXPECT_GT(row.prefill_attention_s.median, 0);
      EXPECT_GT(row.decode_attention_s.median, 0);
      best += row.best ? 1 : 0;
    }
    EXPECT_EQ(best, 1);
  }
  const Table table = to_table(*rows, true);
  ASSERT_EQ(table.rows.size(), 6U);
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_EQ(table.rows[i].size(), table.columns.size());
    EXPECT_EQ(table.rows[i][4].starts_with("**"), (*rows)[i].best);
  }
}

TEST(MixedStep, ABackendThatIsUnknownIsAnError) {
  MixedStepOptions options;
  options.shapes = {{1, 5, 5, 2}};
  options.repeats = 1;
  options.backends = {"nonsense"};
  options.engine.kv_dtype = DType::bf16;
  options.engine.pool = std::make_shared<ThreadPool>(1);
  const auto model = engine::bundled_model(options.engine);
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(run_mixed_step(*model, options).status().code(), StatusCode::invalid_argument);
}

}  // namespace
}  // namespace bifocal::bench
