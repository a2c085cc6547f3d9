#include "bench/attention_bench.h"

#include <gtest/gtest.h>

namespace bifocal::bench {
namespace {

TEST(AttentionGrid, LeavesOutWhatCannotBe) {
  AttentionGrid grid;
  grid.page_size = {16};
  grid.heads = {8, 12};
  grid.kv_heads = {8};
  grid.q_len = {1, 64};
  grid.kv_len = {32, 128};
  grid.shared_prefix = {0, 96};
  std::vector<std::string> names;
  for (const AttentionShape& shape : expand(grid)) names.push_back(to_string(shape));
  EXPECT_EQ(names, (std::vector<std::string>{
                       "h8/8 d128 b1 q1 kv32 p16 bf16", "h8/8 d128 b1 q1 kv128 p16 bf16",
                       "h8/8 d128 b1 q64 kv128 p16 bf16", "h8/8 d128 b1 q1 kv128 shared96 p16 bf16"}));
}

TEST(AttentionGrid, DimsAndDtypes) {
  const auto dims = parse_head_dims("64-128*2,192/128");
  ASSERT_TRUE(dims.ok());
  ASSERT_EQ(dims->size(), 3U);
  EXPECT_EQ((*dims)[1].v, 128);
  EXPECT_EQ((*dims)[2].k, 192);
  EXPECT_EQ((*dims)[2].v, 128);
  for (const char* wrong : {"", "64,", "64/", "/64", "1,2/3/4", "64-128/64", "x"}) {
    EXPECT_FALSE(parse_head_dims(wrong).ok()) << wrong;
  }
  EXPECT_EQ(*parse_dtypes("float32,bf16"), (std::vector<DType>{DType::f32, DType::bf16}));
  EXPECT_FALSE(parse_dtypes("float32,").ok());
}

TEST(AttentionShape, CountsEachKeyOnceAndEachPair) {
  AttentionShape shape;
  shape.num_heads = 4;
  shape.num_kv_heads = 2;
  shape.head_dim_k = 8;
  shape.head_dim_v = 16;
  shape.batch = 3;
  shape.q_len = 2;
  shape.kv_len = 10;
  shape.page_size = 2;
  shape.dtype = DType::f32;
  EXPECT_EQ(flops_of(shape), 2.0 * (9 + 10) * 3 * 4 * 24);
  EXPECT_EQ(bytes_of(shape), 10.0 * 3 * 2 * 24 * 4);
  shape.shared_prefix = 4;
  EXPECT_EQ(bytes_of(shape), (10.0 * 3 - 2 * 4) * 2 * 24 * 4);
  shape.shared_prefix = 5;  // whole pages are shared
  EXPECT_EQ(bytes_of(shape), (10.0 * 3 - 2 * 4) * 2 * 24 * 4);
  shape.shared_prefix = 0;
  shape.window = 3;
  EXPECT_EQ(flops_of(shape), 2.0 * (3 + 3) * 3 * 4 * 24);
  EXPECT_EQ(bytes_of(shape), 4.0 * 3 * 2 * 24 * 4);
}

AttentionBenchRow row(int q_len, const char* backend, double median_s) {
  AttentionBenchRow r;
  r.shape.q_len = q_len;
  r.backend = backend;
  r.median_s = median_s;
  return r;
}

TEST(Crossover, OnePanelPerShapeAndLinePerBackend) {
  std::vector<AttentionBenchRow> rows = {row(1, "a", 2e-6), row(1, "b<", 1e-6), row(4, "a", 3e-6),
                                         row(4, "b<", 9e-6), row(1, "a", 1e-6)};
  rows.back().shape.kv_len = 77;  // a single point is no line
  const auto panels = crossover_panels(rows);
  ASSERT_EQ(panels.size(), 1U);
  ASSERT_EQ(panels[0].lines.size(), 2U);
  EXPECT_EQ(panels[0].lines[1].points.size(), 2U);
  EXPECT_EQ(panels[0].lines[1].points[1].first, 4);
  EXPECT_NEAR(panels[0].lines[1].points[1].second, 9.0, 1e-9);
  const std::string svg = render_svg(panels);
  EXPECT_EQ(svg.rfind("<svg ", 0), 0U);
  EXPECT_NE(svg.find("b&lt;"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
}

// Runs for real, on something small: every backend agrees with `reference`.
TEST(AttentionBench, ChecksEveryEligibleBackend) {
  ThreadPool pool(1);
  AttentionShape shape;
  shape.num_heads = 4;
  shape.num_kv_heads = 2;
  shape.head_dim_k = shape.head_dim_v = 64;
  shape.kv_len = 100;
  shape.q_len = 3;
  AttentionBenchOptions options;
  options.seconds_per_row = 0;
  options.check = true;
  options.set_bytes = size_t{1} << 20;
  size_t calls = 0;
  options.progress = [&](size_t, size_t total, const std::string&) {
    EXPECT_EQ(total, 1U);
    ++calls;
  };
  const auto rows = bench_attention({&shape, 1}, options, pool);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_EQ(calls, 2U);
  ASSERT_EQ(rows->size(), attention::cpu_backends().size() - 1);
  int fastest = 0;
  for (const AttentionBenchRow& r : *rows) {
    EXPECT_LT(r.max_error, 1e-5) << r.backend;
    EXPECT_GE(r.max_error, 0) << r.backend;
    EXPECT_GT(r.page_fraction, 0) << r.backend;
    fastest += r.fastest;
  }
  EXPECT_EQ(fastest, 1);
  EXPECT_EQ(to_table(*rows).rows.size(), rows->size());
  options.backends = {"nope"};
  EXPECT_FALSE(bench_attention({&shape, 1}, options, pool).ok());
}

// Pages of a sequence that don't follow the one before.
size_t count_jumps(const AttentionShape& shape) {
  const auto problem = AttentionProblem::create(shape, 1);
  EXPECT_TRUE(problem.ok());
  const auto batch = problem->batch();
  size_t jumps = 0;
  for (size_t i = 1; i < batch.page_table.size(); ++i) {
    const bool same_sequence = i % static_cast<size_t>(batch.page_table_stride) != 0;
    if (same_sequence && batch.page_table[i] != batch.page_table[i - 1] + 1) ++jumps;
  }
  return jumps;
}

TEST(AttentionProblem, PagesLieAsTheEngineHandsThemOutOrAnywhere) {
  AttentionShape shape;
  shape.num_kv_heads = 1;
  shape.head_dim_k = shape.head_dim_v = 8;
  shape.batch = 4;
  shape.kv_len = 128;
  shape.page_size = 2;
  EXPECT_LE(count_jumps(shape), 16U);
  shape.random_pages = true;
  EXPECT_GE(count_jumps(shape), 200U);
  shape.page_size = 512;
  EXPECT_FALSE(AttentionProblem::create(shape, 1).ok());
}

TEST(AttentionBench, Planning) {
  const auto rows = bench_planning(16, {}, 2);
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), attention::cpu_backends().size() - 1);
  EXPECT_GT(rows->front().num_keys, 16);
  EXPECT_EQ(to_table(*rows).rows.front().size(), to_table(*rows).columns.size());
}

}  // namespace
}  // namespace bifocal::bench
