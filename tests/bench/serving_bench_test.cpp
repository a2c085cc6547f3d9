#include "bench/serving_bench.h"

#include <gtest/gtest.h>

#include "base/progress.h"
#include "bench/fake_server.h"

namespace bifocal::bench {
namespace {

class ServingBenchTest : public ::testing::Test {
 protected:
  void SetUp() override { Progress::set_enabled(false); }

  ServingBenchOptions small_options() {
    ServingBenchOptions options;
    options.base_url = server_.url();
    options.ready_timeout_s = 5;
    options.workload.num_prompts = 12;
    options.workload.random_input_len = 4;
    options.workload.random_output_len = 6;
    options.workload.random_range_ratio = 1;
    return options;
  }

  FakeServer server_;
};

TEST_F(ServingBenchTest, EveryApiStreamedAndWhole) {
  for (const std::string_view backend : serving_backends()) {
    for (const bool stream : {true, false}) {
      ServingBenchOptions options = small_options();
      options.backend = backend;
      options.stream = stream;
      const auto report = run_serving_bench(options);
      ASSERT_TRUE(report.ok()) << backend << ": " << report.status().message();
      const ServingMetrics& m = report->metrics;
      EXPECT_EQ(m.completed, 12) << backend;
      EXPECT_EQ(m.total_input, 48) << backend;
      EXPECT_EQ(m.total_output, 72) << backend;
      EXPECT_GT(m.total_output_retokenized, 0) << backend;
      EXPECT_EQ(report->accept_length.has_value(), !report->server_info.is_null()) << backend;
      for (const RequestTimeline& timeline : report->timelines) {
        EXPECT_EQ(timeline.text, "xxxxxx") << backend;
        EXPECT_EQ(timeline.itl_s.size(), stream ? 5U : 0U) << backend;
        EXPECT_GE(timeline.latency_s, timeline.ttft_s) << backend;
      }
    }
  }
}

TEST_F(ServingBenchTest, WarmUpFlushAndProfileAroundTheRun) {
  ServingBenchOptions options = small_options();
  options.num_warmups = 2;
  options.flush_cache = true;
  options.profile = true;
  ASSERT_TRUE(run_serving_bench(options).ok());
  EXPECT_EQ(server_.num_requests(), 14);
  EXPECT_EQ(server_.posts(), (std::vector<std::string>{"/flush_cache", "/start_profile", "/stop_profile"}));
}

TEST_F(ServingBenchTest, PoissonArrivalsLoseNoRequest) {
  ServingBenchOptions options = small_options();
  options.request_rate = 2000;
  const auto report = run_serving_bench(options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->metrics.completed, 12);
  for (size_t i = 1; i < report->timelines.size(); ++i) {
    EXPECT_GE(report->timelines[i].start_ns, report->timelines[i - 1].start_ns);
  }
}

TEST_F(ServingBenchTest, FailuresAreCountedApart) {
  ServingBenchOptions options = small_options();
  options.num_warmups = 0;
  server_.fail_every(4);
  const auto report = run_serving_bench(options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->metrics.completed, 9);
  EXPECT_EQ(report->metrics.total_output, 54);
  server_.fail_every(1);
  const Status status = run_serving_bench(options).status();
  EXPECT_EQ(status.code(), StatusCode::unavailable);
  EXPECT_NE(status.message().find("12 of 12 requests failed"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("on purpose"), std::string::npos) << status.message();
  options.num_warmups = 1;
  EXPECT_NE(run_serving_bench(options).status().message().find("warm-up"), std::string::npos);
}

TEST_F(ServingBenchTest, MistakesAreNamed) {
  ServingBenchOptions options = small_options();
  options.extra_body = "[1]";
  EXPECT_EQ(run_serving_bench(options).status().code(), StatusCode::invalid_argument);
  options = small_options();
  options.backend = "openai-chat";
  options.workload.as_ids = true;
  EXPECT_EQ(run_serving_bench(options).status().code(), StatusCode::invalid_argument);
  options = small_options();
  options.backend = "trt";
  EXPECT_EQ(run_serving_bench(options).status().code(), StatusCode::invalid_argument);
  options = small_options();
  options.tokenizer = BIFOCAL_SOURCE_DIR "/models/data";
  EXPECT_EQ(run_serving_bench(options).status().code(), StatusCode::not_found);
}

// The server answers only once `bound` requests are there: fewer at a time would never end, more would be
// seen.
TEST_F(ServingBenchTest, AsManyAtATimeAsAllowed) {
  constexpr int kBound = 100;
  std::vector<WorkloadRequest> requests(3 * kBound, WorkloadRequest{"Hello", {}, 1, 20});
  server_.set_group(kBound);
  const auto client = server::http::HttpClient::create(server_.url());
  ASSERT_TRUE(client.ok());
  LoadOptions load;
  load.max_concurrency = kBound;
  const LoadResult result =
      run_load(**client, *find_serving_backend("sglang")->api, {}, requests, NumpyRandom(1), load);
  EXPECT_EQ(server_.most_at_once(), kBound);
  for (const RequestTimeline& timeline : result.timelines) {
    EXPECT_TRUE(timeline.ok) << timeline.error;
    EXPECT_EQ(timeline.itl_s.size(), 19U);
  }
}

}  // namespace
}  // namespace bifocal::bench
