#include "server/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

// Dashboards are built on these: a name may be added, never changed or dropped.
constexpr std::string_view kFrozen[] = {
    "gauge build_info",
    "gauge ready",
    "gauge num_running_reqs",
    "gauge num_queue_reqs",
    "gauge gen_throughput",
    "gauge cache_hit_rate",
    "gauge token_usage",
    "gauge full_token_usage",
    "gauge swa_token_usage",
    "gauge num_used_tokens",
    "gauge num_pages",
    "gauge kv_free_pages",
    "gauge kv_cached_pages",
    "gauge swa_num_pages",
    "gauge swa_free_pages",
    "gauge swa_cached_pages",
    "gauge kv_available_tokens",
    "gauge kv_evictable_tokens",
    "gauge max_total_num_tokens",
    "gauge context_len",
    "gauge page_size",
    "gauge last_step_age_seconds",
    "gauge http_open_connections",
    "counter prompt_tokens_total",
    "counter cached_tokens_total",
    "counter generation_tokens_total",
    "counter num_requests_total",
    "counter num_finished_requests_total",
    "counter num_aborted_requests_total",
    "counter num_failed_requests_total",
    "counter num_retracted_requests_total",
    "counter numeric_faults_total",
    "counter engine_steps_total",
    "counter attention_steps_total",
    "counter attention_plans_total",
    "counter attention_rows_total",
    "counter attention_seconds_total",
    "counter http_requests_total",
    "counter rejected_requests_total",
    "counter aborts_total",
    "histogram time_to_first_token_seconds",
    "histogram inter_token_latency_seconds",
    "histogram e2e_request_latency_seconds",
    "histogram prompt_tokens_histogram",
    "histogram uncached_prompt_tokens_histogram",
    "histogram generation_tokens_histogram",
};

TEST(Metrics, NamesAreFrozen) {
  std::set<std::string> names;
  for (const MetricName& metric : metric_names()) {
    names.insert(std::string(metric.type) + " " + std::string(metric.name));
    EXPECT_FALSE(metric.help.empty()) << metric.name;
  }
  for (const std::string_view name : kFrozen) EXPECT_EQ(names.count(std::string(name)), 1U) << name;
}

TEST(Metrics, EveryNameIsShownOnce) {
  TestServer server;
  server.post("/v1/completions", R"({"prompt":"a","stream":true})");
  const std::string text = server.get("/metrics").body;
  for (const MetricName& metric : metric_names()) {
    const std::string type =
        "# TYPE bifocal_" + std::string(metric.name) + " " + std::string(metric.type) + "\n";
    const size_t at = text.find(type);
    ASSERT_NE(at, std::string::npos) << metric.name;
    EXPECT_EQ(text.find(type, at + 1), std::string::npos) << metric.name;
  }
}

// Every line is a comment or `name{labels} value`.
TEST(Metrics, IsWellFormed) {
  TestServer server;
  server.post("/v1/completions", R"({"prompt":"a"})");
  const Reply reply = server.get("/metrics");
  EXPECT_EQ(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  for (size_t at = 0; at < reply.body.size();) {
    const size_t end = reply.body.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = reply.body.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("# HELP bifocal_") || line.starts_with("# TYPE bifocal_")) continue;
    const size_t brace = line.find('{');
    const size_t close = line.rfind("} ");
    ASSERT_TRUE(line.starts_with("bifocal_") && brace != std::string::npos && close != std::string::npos)
        << line;
    size_t used = 0;
    std::stod(line.substr(close + 2), &used);
    EXPECT_EQ(used, line.size() - close - 2) << line;
  }
}

TEST(Metrics, CountsWhatHappened) {
  TestServer server;
  server.post("/v1/completions", R"({"prompt":"abc","max_tokens":5})");
  server.post("/v1/completions", R"({"prompt":"abc","max_tokens":5,"stream":true})");
  server.post("/v1/completions", R"({"prompt":7})");
  const std::string model = "model_name=\"fake\"";
  EXPECT_EQ(server.metric("bifocal_num_requests_total{" + model + ",is_streaming=\"false\"}"), 1);
  EXPECT_EQ(server.metric("bifocal_num_requests_total{" + model + ",is_streaming=\"true\"}"), 1);
  // The engine's own numbers follow its events.
  EXPECT_TRUE(
      eventually([&] { return server.metric("bifocal_generation_tokens_total{" + model + "}") == 10; }));
  EXPECT_EQ(server.metric("bifocal_time_to_first_token_seconds_count{" + model + "}"), 2);
  EXPECT_EQ(server.metric("bifocal_inter_token_latency_seconds_count{" + model + "}"), 8);
  EXPECT_EQ(server.metric("bifocal_e2e_request_latency_seconds_count{" + model + "}"), 2);
  EXPECT_EQ(server.metric("bifocal_generation_tokens_histogram_sum{" + model + "}"), 10);
  EXPECT_EQ(server.metric("bifocal_prompt_tokens_histogram_bucket{" + model + ",le=\"10\"}"), 2);
  EXPECT_EQ(server.metric("bifocal_rejected_requests_total{reason=\"invalid\"}"), 1);
  EXPECT_TRUE(eventually([&] {
    return server.metric("bifocal_http_requests_total{route=\"/v1/completions\",status=\"200\"}") == 2 &&
           server.metric("bifocal_http_requests_total{route=\"/v1/completions\",status=\"400\"}") == 1;
  }));
  const std::string decode =
      ",attention_class=\"gqa_h4_kv2_d64_f32_p16\",phase=\"decode\",backend=\"streaming\"}";
  EXPECT_TRUE(eventually([&] {
    return server.metric("bifocal_attention_steps_total{" + model + decode) ==
           static_cast<double>(server.engine.stats()->steps);
  }));
}

TEST(Metrics, ClientsCanNotMakeItGrow) {
  TestServer server;
  server.get("/nothing");
  server.post("/v1/completions", R"({"prompt":"a","model":"m"})");
  server.get("/metrics");
  const auto lines = [&] {
    const std::string text = server.get("/metrics").body;
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_TRUE(eventually(
      [&] { return server.metric("bifocal_http_requests_total{route=\"none\",status=\"404\"}") == 1; }));
  const auto before = lines();
  for (int i = 0; i < 200; ++i) {
    const std::string n = std::to_string(i);
    server.post("/v1/completions", R"({"prompt":"a","model":"model-)" + n + R"(","user":"u)" + n + R"("})");
    server.get("/nothing/" + n);
  }
  EXPECT_EQ(lines(), before);
  EXPECT_EQ(server.get("/metrics").body.find("model-1"), std::string::npos);
}

TEST(Metrics, HistogramBucketsAreCumulative) {
  static constexpr double kBounds[] = {1, 2};
  Histogram histogram(kBounds);
  histogram.observe(0.5);
  histogram.observe(1);  // on the bound: inside
  histogram.observe(1.5, 3);
  histogram.observe(9);
  std::string out;
  histogram.append(out, "prompt_tokens_histogram", "a=\"b\"");
  EXPECT_NE(out.find("_bucket{a=\"b\",le=\"1\"} 2\n"), std::string::npos) << out;
  EXPECT_NE(out.find("_bucket{a=\"b\",le=\"2\"} 5\n"), std::string::npos);
  EXPECT_NE(out.find("_bucket{a=\"b\",le=\"+Inf\"} 6\n"), std::string::npos);
  EXPECT_NE(out.find("_sum{a=\"b\"} 15\n"), std::string::npos);
  EXPECT_NE(out.find("_count{a=\"b\"} 6\n"), std::string::npos);
}

TEST(Metrics, RetryAfterFollowsTheQueue) {
  Metrics metrics;
  EXPECT_EQ(metrics.retry_after_s(100, 1), 1);  // nothing known yet
  metrics.request_finished(2.0, 1, 0, 1);
  EXPECT_EQ(metrics.retry_after_s(10, 4), 5);
  EXPECT_EQ(metrics.retry_after_s(1000, 1), 60);
  EXPECT_EQ(metrics.retry_after_s(0, 4), 1);
}

}  // namespace
}  // namespace bifocal::server
