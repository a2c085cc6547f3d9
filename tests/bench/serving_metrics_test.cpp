#include "bench/serving_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "bench/serving_report.h"

namespace bifocal::bench {
namespace {

constexpr int64_t kMs = 1'000'000;

WorkloadRequest request_of(int64_t prompt_len, int64_t output_len) {
  WorkloadRequest request;
  request.prompt_len = prompt_len;
  request.output_len = output_len;
  return request;
}

AnswerPiece native(std::string text, int64_t tokens) {
  return {std::move(text), true, tokens};
}
AnswerPiece openai(std::string text) {
  return {std::move(text), false, std::nullopt};
}

// Sent at 1 s: "a" after 20 ms, two tokens after 50 ms, one without text after 60 ms, its text with another
// after 70 ms, the text once more at the end after 71 ms, [DONE] after 72 ms.
RequestTimeline native_timeline() {
  TimelineRecorder recorder(request_of(10, 5), 1000 * kMs);
  recorder.on_piece(native("a", 1), 1020 * kMs);
  recorder.on_piece(native("abc", 3), 1050 * kMs);
  recorder.on_piece(native("", 4), 1060 * kMs);
  recorder.on_piece(native("abcde", 5), 1070 * kMs);
  recorder.on_piece(native("abcde", 5), 1071 * kMs);
  recorder.on_event(1072 * kMs);
  return std::move(recorder).finish();
}

// Sent at 1.9 s: text after 100, 120, 160 ms, then the usage after 161 ms: four tokens, though three came
// with text and eight were asked for.
RequestTimeline openai_timeline() {
  TimelineRecorder recorder(request_of(20, 8), 1900 * kMs);
  recorder.on_piece(openai(""), 1910 * kMs);
  recorder.on_piece(openai("x"), 2000 * kMs);
  recorder.on_piece(openai("y"), 2020 * kMs);
  recorder.on_piece(openai("z"), 2060 * kMs);
  recorder.on_piece({"", false, 4}, 2061 * kMs);
  return std::move(recorder).finish();
}

RequestTimeline failed_timeline() {
  TimelineRecorder recorder(request_of(1000, 1000), 0);
  recorder.on_piece(openai("x"), 5 * kMs);
  return std::move(recorder).fail("broken");
}

void expect_near(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-9) << i;
}

TEST(RequestTimeline, AGapIsSharedByTheTokensOfAChunk) {
  const RequestTimeline t = native_timeline();
  EXPECT_TRUE(t.ok);
  EXPECT_EQ(t.text, "abcde");
  EXPECT_EQ(t.output_len, 5);
  EXPECT_NEAR(t.ttft_s, 0.020, 1e-12);
  EXPECT_NEAR(t.latency_s, 0.072, 1e-12);
  expect_near(t.itl_s, {0.015, 0.015, 0.010, 0.010});
}

TEST(RequestTimeline, AServerWithoutATokenizerTellsHowManyTokens) {
  TimelineRecorder recorder(request_of(10, 4), 0, true);
  recorder.on_piece(native("", 1), 20 * kMs);
  recorder.on_piece(native("", 3), 50 * kMs);
  recorder.on_piece(native("", 3), 51 * kMs);
  recorder.on_event(52 * kMs);
  const RequestTimeline t = std::move(recorder).finish();
  EXPECT_EQ(t.output_len, 3);
  EXPECT_NEAR(t.ttft_s, 0.020, 1e-12);
  expect_near(t.itl_s, {0.015, 0.015});
}

TEST(RequestTimeline, AChunkWithoutACountIsOneGap) {
  const RequestTimeline t = openai_timeline();
  EXPECT_EQ(t.text, "xyz");
  EXPECT_EQ(t.output_len, 4);
  EXPECT_NEAR(t.ttft_s, 0.100, 1e-12);
  EXPECT_NEAR(t.latency_s, 0.161, 1e-12);
  expect_near(t.itl_s, {0.020, 0.040});
}

TEST(RequestTimeline, AWholeAnswerHasNoGaps) {
  TimelineRecorder recorder(request_of(3, 9), 0);
  recorder.on_piece({"all of it", false, 7}, 40 * kMs);
  const RequestTimeline t = std::move(recorder).finish();
  EXPECT_EQ(t.output_len, 7);
  EXPECT_DOUBLE_EQ(t.ttft_s, t.latency_s);
  EXPECT_TRUE(t.itl_s.empty());
}

TEST(Distribution, InterpolatesBetweenRanks) {
  const Distribution d = distribution_of({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(d.mean, 2.5);
  EXPECT_DOUBLE_EQ(d.median, 2.5);
  EXPECT_DOUBLE_EQ(d.std, std::sqrt(1.25));
  EXPECT_DOUBLE_EQ(d.p90, 3.7);
  EXPECT_DOUBLE_EQ(d.p99, 3.97);
  EXPECT_DOUBLE_EQ(d.max, 4);
  EXPECT_EQ(distribution_of({}).p99, 0);
  EXPECT_EQ(distribution_of({7}).p95, 7);
}

ServingReport scripted_report() {
  ServingReport report;
  report.backend = "sglang";
  report.request_rate = 32;
  report.max_concurrency = 16;
  report.timelines = {native_timeline(), failed_timeline(), openai_timeline()};
  auto metrics = serving_metrics(report.timelines, 2.0, nullptr);
  EXPECT_TRUE(metrics.ok());
  report.metrics = *metrics;
  return report;
}

TEST(ServingMetrics, OfAScriptedTimeline) {
  const ServingMetrics m = scripted_report().metrics;
  EXPECT_EQ(m.completed, 2);
  EXPECT_EQ(m.total_input, 30);
  EXPECT_EQ(m.total_output, 9);
  EXPECT_DOUBLE_EQ(m.request_throughput, 1.0);
  EXPECT_DOUBLE_EQ(m.input_throughput, 15.0);
  EXPECT_DOUBLE_EQ(m.output_throughput, 4.5);
  EXPECT_DOUBLE_EQ(m.total_throughput, 19.5);
  EXPECT_NEAR(m.concurrency, (0.072 + 0.161) / 2, 1e-12);
  EXPECT_NEAR(m.e2e_latency_ms.mean, 116.5, 1e-9);
  EXPECT_NEAR(m.ttft_ms.median, 60, 1e-9);
  // (72 - 20) / 4 and (161 - 100) / 3.
  EXPECT_NEAR(m.tpot_ms.mean, (13.0 + 61.0 / 3) / 2, 1e-9);
  // 15, 15, 10, 10, 20, 40
  EXPECT_NEAR(m.itl_ms.mean, 110.0 / 6, 1e-9);
  EXPECT_NEAR(m.itl_ms.median, 15, 1e-9);
  EXPECT_NEAR(m.itl_ms.max, 40, 1e-9);
  // The first second has the five tokens of the first request; the second request begins in it.
  EXPECT_EQ(m.max_output_tokens_per_s, 5);
  EXPECT_EQ(m.max_concurrent_requests, 2);
}

TEST(ServingMetrics, OfNothing) {
  const auto metrics = serving_metrics({failed_timeline()}, 1.0, nullptr);
  ASSERT_TRUE(metrics.ok());
  EXPECT_EQ(metrics->completed, 0);
  EXPECT_EQ(metrics->itl_ms.max, 0);
}

TEST(ServingReport, TheBlockLineForLine) {
  EXPECT_EQ(serving_block(scripted_report()),
            "\n"
            "============ Serving Benchmark Result ============\n"
            "Backend:                                 sglang    \n"
            "Traffic request rate:                    32.0      \n"
            "Max reqeuest concurrency:                16        \n"
            "Successful requests:                     2         \n"
            "Benchmark duration (s):                  2.00      \n"
            "Total input tokens:                      30        \n"
            "Total generated tokens:                  9         \n"
            "Total generated tokens (retokenized):    0         \n"
            "Request throughput (req/s):              1.00      \n"
            "Input token throughput (tok/s):          15.00     \n"
            "Output token throughput (tok/s):         4.50      \n"
            "Total token throughput (tok/s):          19.50     \n"
            "Concurrency:                             0.12      \n"
            "----------------End-to-End Latency----------------\n"
            "Mean E2E Latency (ms):                   116.50    \n"
            "Median E2E Latency (ms):                 116.50    \n"
            "---------------Time to First Token----------------\n"
            "Mean TTFT (ms):                          60.00     \n"
            "Median TTFT (ms):                        60.00     \n"
            "P99 TTFT (ms):                           99.20     \n"
            "-----Time per Output Token (excl. 1st token)------\n"
            "Mean TPOT (ms):                          16.67     \n"
            "Median TPOT (ms):                        16.67     \n"
            "P99 TPOT (ms):                           20.26     \n"
            "---------------Inter-Token Latency----------------\n"
            "Mean ITL (ms):                           18.33     \n"
            "Median ITL (ms):                         15.00     \n"
            "P95 ITL (ms):                            35.00     \n"
            "P99 ITL (ms):                            39.00     \n"
            "Max ITL (ms):                            40.00     \n"
            "==================================================\n");
}

TEST(ServingReport, RatesAndBoundsThatAreNotSet) {
  ServingReport report = scripted_report();
  report.request_rate = std::numeric_limits<double>::infinity();
  report.max_concurrency = 0;
  report.accept_length = 2.5;
  const std::string block = serving_block(report);
  EXPECT_NE(block.find("Traffic request rate:                    inf       \n"), std::string::npos);
  EXPECT_NE(block.find("Max reqeuest concurrency:                not set   \n"), std::string::npos);
  EXPECT_NE(block.find("Accept length:                           2.50      \n"), std::string::npos);
}

TEST(ServingReport, TheJsonLine) {
  const ServingReport report = scripted_report();
  const std::string line = serving_json(report, true);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = parse_json(line);
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ(json->find("completed")->as_int(), 2);
  EXPECT_EQ(json->find("max_concurrency")->as_int(), 16);
  EXPECT_TRUE(json->find("accept_length")->is_null());
  for (const char* name : {"mean_e2e_latency_ms", "median_ttft_ms", "std_tpot_ms", "p90_itl_ms", "p95_itl_ms",
                           "p99_itl_ms", "max_itl_ms", "total_throughput", "concurrency", "duration"}) {
    ASSERT_NE(json->find(name), nullptr) << name;
    EXPECT_TRUE(json->find(name)->is_number()) << name;
  }
  EXPECT_EQ(json->find("output_lens")->as_array()[1].as_int(), 0);
  EXPECT_EQ(json->find("itls")->as_array()[2].as_array().size(), 2U);
  EXPECT_EQ(json->find("errors")->as_array()[1].as_string(), "broken");
  EXPECT_EQ(parse_json(serving_json(report, false))->find("itls"), nullptr);
}

TEST(OfflineReport, TheBlockLineForLine) {
  EXPECT_EQ(offline_block({"engine", 4, 2.0, 100, 60, 35.5}),
            "\n"
            "====== Offline Throughput Benchmark Result =======\n"
            "Backend:                                 engine    \n"
            "Successful requests:                     4         \n"
            "Benchmark duration (s):                  2.00      \n"
            "Total input tokens:                      100       \n"
            "Total generated tokens:                  60        \n"
            "Last generation throughput (tok/s):      35.50     \n"
            "Request throughput (req/s):              2.00      \n"
            "Input token throughput (tok/s):          50.00     \n"
            "Output token throughput (tok/s):         30.00     \n"
            "Total token throughput (tok/s):          80.00     \n"
            "==================================================\n");
  const auto json = parse_json(offline_json({"engine", 4, 2.0, 100, 60, 35.5}));
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->find("total_throughput")->as_double(), 80);
  EXPECT_EQ(json->find("mean_gpu_idle_us"), nullptr);
  const OfflineReport on_gpu{"engine", 4, 2.0, 100, 60, 35.5, 2.1e-6};
  EXPECT_NE(offline_block(on_gpu).find("\nMean GPU idle between steps (us):        2.10      \n"),
            std::string::npos);
  EXPECT_DOUBLE_EQ(parse_json(offline_json(on_gpu))->find("mean_gpu_idle_us")->as_double(), 2.1);
}

}  // namespace
}  // namespace bifocal::bench
