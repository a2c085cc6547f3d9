#include "bench/compare.h"

#include <gtest/gtest.h>

#include "bench/arrivals.h"
#include "bench/offline.h"
#include "engine/bundled_model.h"

namespace bifocal::bench {
namespace {

TEST(CompareWorkload, ThreeNumbers) {
  const auto workload = parse_compare_workload("256/32/8");
  ASSERT_TRUE(workload.ok());
  EXPECT_EQ(workload->input_len, 256);
  EXPECT_EQ(workload->output_len, 32);
  EXPECT_EQ(workload->concurrency, 8);
  for (const char* wrong :
       {"", "256", "256/32", "256/32/8/", "256/32/0", "a/32/8", "256/-1/8", "256/32/8 ", "99999999999/1/1"}) {
    EXPECT_EQ(parse_compare_workload(wrong).status().code(), StatusCode::invalid_argument) << wrong;
  }
}

Comparison scripted() {
  Comparison c;
  c.configs = {"a", "b"};
  c.workloads = {{512, 16, 8}, {512, 16, 2}};
  c.cells = {{{{100, 0.02}, {5, 0}, {1.5, 0}, false}, {{200, 0.1}, {4, 0}, {1, 0}, true}},
             {{{50, 0}, {5, 0}, {1.5, 0}, true}, {{40, 0}, {4, 0}, {1, 0}, false}}};
  return c;
}

TEST(Comparison, TheOverviewHasAColumnPerConfiguration) {
  EXPECT_EQ(*render(overview_table(scripted()), "md"),
            "| total tokens/s                     | a               | b                |\n"
            "|------------------------------------|-----------------|------------------|\n"
            "| concurrency=8, input/output=512/16 | 100.00 ±1.0%    | **200.00** ±5.0% |\n"
            "| concurrency=2, input/output=512/16 | **50.00** ±0.0% | 40.00 ±0.0%      |\n");
}

TEST(Comparison, DetailsAndPlot) {
  const Table table = details_table(scripted());
  ASSERT_EQ(table.rows.size(), 4U);
  EXPECT_EQ(table.rows[0],
            (std::vector<std::string>{"512", "16", "8", "a", "100.00", "2.0%", "0.500", "5.00", "1.50"}));
  EXPECT_EQ(table.rows[1][6], "1.000");
  const auto panels = compare_panels(scripted());
  ASSERT_EQ(panels.size(), 1U);
  ASSERT_EQ(panels[0].lines.size(), 2U);
  EXPECT_EQ(panels[0].lines[1].points, (std::vector<std::pair<double, double>>{{2, 40}, {8, 200}}));
}

TEST(Offline, ThroughputOfTheLastSecond) {
  RequestTimeline a;
  a.start_ns = 0;
  a.ttft_s = 0.5;
  a.itl_s = {0.5, 0.5, 0.5};  // tokens at 0.5, 1.0, 1.5 and 2.0 s
  RequestTimeline b = a;
  b.start_ns = 250'000'000;
  EXPECT_DOUBLE_EQ(last_gen_throughput({a}), 2);     // after 1.0 s
  EXPECT_DOUBLE_EQ(last_gen_throughput({a, b}), 4);  // after 1.25 s: at 1.5, 1.75, 2.0 and 2.25 s
  EXPECT_DOUBLE_EQ(last_gen_throughput({}), 0);
}

TEST(Offline, WarmUpsAreBeginnings) {
  WorkloadRequest request;
  request.ids.resize(1000, 7);
  request.prompt_len = 1000;
  request.output_len = 9;
  const auto warmups = warmup_requests(std::vector<WorkloadRequest>(40, request));
  ASSERT_EQ(warmups.size(), 16U);
  EXPECT_EQ(warmups[0].ids.size(), 256U);
  EXPECT_EQ(warmups[0].prompt_len, 256);
  EXPECT_EQ(warmups[0].output_len, 9);
}

class CompareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Progress::set_enabled(false);
    set_log_level(LogLevel::warn);
    engine_.pool = std::make_shared<ThreadPool>(1);
    engine_.kv_dtype = DType::bf16;
    model::LoadOptions load;
    load.path = engine::bundled_model_directory();
    load.kv_dtype = engine_.kv_dtype;
    load.pool = engine_.pool;
    auto loaded = model::load_model(load);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    model_ = std::move(loaded->model);
  }

  std::unique_ptr<model::Model> model_;
  engine::EngineOptions engine_;
};

TEST_F(CompareTest, EveryConfigurationRunsInTurns) {
  CompareOptions options;
  options.configs = {{"tiled", engine_}, {"streaming", engine_}};
  options.configs[0].engine.attention.backend = "tiled";
  options.configs[1].engine.attention.backend = "streaming";
  options.workloads = {{20, 4, 1}, {20, 4, 3}};
  options.repeats = 2;
  int runs = 0;
  options.on_run = [&] { ++runs; };
  const auto comparison = run_compare(*model_, options);
  ASSERT_TRUE(comparison.ok()) << comparison.status().message();
  EXPECT_EQ(runs, 8);
  ASSERT_EQ(comparison->cells.size(), 2U);
  for (const auto& cells : comparison->cells) {
    ASSERT_EQ(cells.size(), 2U);
    EXPECT_NE(cells[0].best, cells[1].best);
    for (const CompareCell& cell : cells) {
      EXPECT_GT(cell.total_tokens_per_s.median, 0);
      EXPECT_GT(cell.ttft_ms.median, 0);
      EXPECT_GT(cell.itl_ms.median, 0);
    }
  }
}

TEST_F(CompareTest, AConfigurationThatCannotServeIsNamed) {
  CompareOptions options;
  options.configs = {{"odd one", engine_}};
  options.configs[0].engine.attention.backend = "no_such_backend";
  options.workloads = {{20, 4, 1}};
  const Status status = run_compare(*model_, options).status();
  EXPECT_NE(status.message().find("odd one"), std::string::npos) << status.message();
}

TEST_F(CompareTest, OfflineRunsEveryRequestOnce) {
  std::vector<WorkloadRequest> requests(5);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].ids = random_tokens(i, 10 + static_cast<int64_t>(i), 2000);
    requests[i].prompt_len = 10 + static_cast<int64_t>(i);
    requests[i].output_len = 3 + static_cast<int64_t>(i);
  }
  engine_.max_total_tokens = 1024;
  engine_.context_length = 64;
  auto engine = engine::Engine::create(std::move(model_), nullptr, engine_);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  for (const int bound : {0, 1, 2}) {
    const auto result = run_offline(**engine, requests, {bound, true});
    ASSERT_TRUE(result.ok()) << result.status().message();
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(result->timelines[i].output_len, requests[i].output_len);
      EXPECT_EQ(result->timelines[i].itl_s.size(), static_cast<size_t>(requests[i].output_len) - 1);
    }
  }
  EXPECT_GT(last_gen_throughput(run_offline(**engine, requests, {})->timelines), 0);
  requests[3].ids.resize(100);  // beyond the context
  EXPECT_EQ(run_offline(**engine, requests, {1, true}).status().code(), StatusCode::invalid_argument);
}

}  // namespace
}  // namespace bifocal::bench
