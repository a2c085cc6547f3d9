#include "bench/serving_report.h"

#include <fmt/format.h>

#include <cmath>

namespace bifocal::bench {
namespace {

constexpr int kWidth = 50;

std::string heading(std::string_view text, char fill) {
  const size_t free = kWidth - text.size();
  return std::string(free / 2, fill) + std::string(text) + std::string(free - free / 2, fill) + "\n";
}
std::string row(std::string_view name, std::string_view value) {
  return fmt::format("{:<40} {:<10}\n", name, value);
}
std::string row(std::string_view name, double value) {
  return row(name, fmt::format("{:.2f}", value));
}
std::string row(std::string_view name, int64_t value) {
  return row(name, fmt::format("{}", value));
}

// As Python prints a float.
std::string rate_text(double rate) {
  const bool whole = std::isfinite(rate) && rate == std::floor(rate) && std::abs(rate) < 1e15;
  return whole ? fmt::format("{:.1f}", rate) : fmt::format("{}", rate);
}

struct Share {
  std::string_view name;
  double Distribution::*value;
};

// "mean_ttft_ms", ...
void write_distribution(JsonWriter& json, std::string_view name, const Distribution& values) {
  constexpr Share kShares[] = {{"mean", &Distribution::mean}, {"median", &Distribution::median},
                               {"std", &Distribution::std},   {"p90", &Distribution::p90},
                               {"p95", &Distribution::p95},   {"p99", &Distribution::p99}};
  for (const Share& share : kShares) {
    json.member(fmt::format("{}_{}_ms", share.name, name), values.*share.value);
  }
}

template <class Get>
void write_list(JsonWriter& json, std::string_view name, const std::vector<RequestTimeline>& timelines,
                Get get) {
  json.key(name).begin_array();
  for (const RequestTimeline& t : timelines) json.value(get(t));
  json.end_array();
}

void write_details(JsonWriter& json, const std::vector<RequestTimeline>& timelines) {
  write_list(json, "input_lens", timelines, [](const RequestTimeline& t) { return t.prompt_len; });
  write_list(json, "output_lens", timelines,
             [](const RequestTimeline& t) { return t.ok ? t.output_len : int64_t{0}; });
  write_list(json, "ttfts", timelines, [](const RequestTimeline& t) { return t.ttft_s; });
  write_list(json, "latencies", timelines, [](const RequestTimeline& t) { return t.latency_s; });
  json.key("itls").begin_array();
  for (const RequestTimeline& t : timelines) {
    json.begin_array();
    for (const double gap_s : t.itl_s) json.value(gap_s);
    json.end_array();
  }
  json.end_array();
  write_list(json, "generated_texts", timelines, [](const RequestTimeline& t) { return t.text; });
  write_list(json, "errors", timelines, [](const RequestTimeline& t) { return t.error; });
}

}  // namespace

std::string serving_block(const ServingReport& report) {
  const ServingMetrics& m = report.metrics;
  const auto concurrency =
      report.max_concurrency > 0 ? fmt::format("{}", report.max_concurrency) : std::string("not set");
  std::string out = "\n" + heading(" Serving Benchmark Result ", '=');
  out += row("Backend:", report.backend);
  out += row("Traffic request rate:", rate_text(report.request_rate));
  out += row("Max reqeuest concurrency:", concurrency);  // so spelled: scripts look for these lines
  out += row("Successful requests:", m.completed);
  out += row("Benchmark duration (s):", m.duration_s);
  out += row("Total input tokens:", m.total_input);
  out += row("Total generated tokens:", m.total_output);
  out += row("Total generated tokens (retokenized):", m.total_output_retokenized);
  out += row("Request throughput (req/s):", m.request_throughput);
  out += row("Input token throughput (tok/s):", m.input_throughput);
  out += row("Output token throughput (tok/s):", m.output_throughput);
  out += row("Total token throughput (tok/s):", m.total_throughput);
  out += row("Concurrency:", m.concurrency);
  if (report.accept_length) out += row("Accept length:", *report.accept_length);
  out += heading("End-to-End Latency", '-');
  out += row("Mean E2E Latency (ms):", m.e2e_latency_ms.mean);
  out += row("Median E2E Latency (ms):", m.e2e_latency_ms.median);
  out += heading("Time to First Token", '-');
  out += row("Mean TTFT (ms):", m.ttft_ms.mean);
  out += row("Median TTFT (ms):", m.ttft_ms.median);
  out += row("P99 TTFT (ms):", m.ttft_ms.p99);
  out += heading("Time per Output Token (excl. 1st token)", '-');
  out += row("Mean TPOT (ms):", m.tpot_ms.mean);
  out += row("Median TPOT (ms):", m.tpot_ms.median);
  out += row("P99 TPOT (ms):", m.tpot_ms.p99);
  out += heading("Inter-Token Latency", '-');
  out += row("Mean ITL (ms):", m.itl_ms.mean);
  out += row("Median ITL (ms):", m.itl_ms.median);
  out += row("P95 ITL (ms):", m.itl_ms.p95);
  out += row("P99 ITL (ms):", m.itl_ms.p99);
  out += row("Max ITL (ms):", m.itl_ms.max);
  return out + std::string(kWidth, '=') + "\n";
}

std::string serving_json(const ServingReport& report, bool details) {
  const ServingMetrics& m = report.metrics;
  const WorkloadOptions& w = report.workload;
  JsonWriter json;
  json.begin_object();
  json.member("backend", report.backend).member("dataset_name", w.dataset);
  json.key("request_rate");
  if (std::isfinite(report.request_rate)) {
    json.value(report.request_rate);
  } else {
    json.value("inf");
  }
  json.key("max_concurrency");
  if (report.max_concurrency > 0) {
    json.value(report.max_concurrency);
  } else {
    json.null();
  }
  json.key("sharegpt_output_len");
  if (w.fixed_output_len > 0) {
    json.value(w.fixed_output_len);
  } else {
    json.null();
  }
  json.member("random_input_len", w.random_input_len).member("random_output_len", w.random_output_len);
  json.member("random_range_ratio", w.random_range_ratio).member("seed", uint64_t{w.seed});
  json.member("server_info", report.server_info);
  json.member("duration", m.duration_s).member("completed", m.completed);
  json.member("total_input_tokens", m.total_input).member("total_output_tokens", m.total_output);
  json.member("total_output_tokens_retokenized", m.total_output_retokenized);
  json.member("request_throughput", m.request_throughput).member("input_throughput", m.input_throughput);
  json.member("output_throughput", m.output_throughput).member("total_throughput", m.total_throughput);
  write_distribution(json, "e2e_latency", m.e2e_latency_ms);
  write_distribution(json, "ttft", m.ttft_ms);
  write_distribution(json, "tpot", m.tpot_ms);
  write_distribution(json, "itl", m.itl_ms);
  json.member("max_itl_ms", m.itl_ms.max).member("concurrency", m.concurrency);
  json.member("accept_length", report.accept_length);
  json.member("max_output_tokens_per_s", m.max_output_tokens_per_s);
  json.member("max_concurrent_requests", m.max_concurrent_requests);
  if (details) write_details(json, report.timelines);
  json.end_object();
  return json.take();
}

std::string offline_block(const OfflineReport& r) {
  std::string out = "\n" + heading(" Offline Throughput Benchmark Result ", '=');
  out += row("Backend:", r.backend);
  out += row("Successful requests:", r.requests);
  out += row("Benchmark duration (s):", r.duration_s);
  out += row("Total input tokens:", r.input_tokens);
  out += row("Total generated tokens:", r.output_tokens);
  out += row("Last generation throughput (tok/s):", r.last_gen_throughput);
  out += row("Request throughput (req/s):", static_cast<double>(r.requests) / r.duration_s);
  out += row("Input token throughput (tok/s):", static_cast<double>(r.input_tokens) / r.duration_s);
  out += row("Output token throughput (tok/s):", static_cast<double>(r.output_tokens) / r.duration_s);
  out += row("Total token throughput (tok/s):",
             static_cast<double>(r.input_tokens + r.output_tokens) / r.duration_s);
  if (r.mean_idle_s) out += row("Mean GPU idle between steps (us):", *r.mean_idle_s * 1e6);
  return out + std::string(kWidth, '=') + "\n";
}

std::string offline_json(const OfflineReport& r) {
  JsonWriter json;
  json.begin_object();
  json.member("backend", r.backend).member("successful_requests", r.requests);
  json.member("total_latency", r.duration_s).member("total_input_tokens", r.input_tokens);
  json.member("total_output_tokens", r.output_tokens);
  json.member("request_throughput", static_cast<double>(r.requests) / r.duration_s);
  json.member("input_throughput", static_cast<double>(r.input_tokens) / r.duration_s);
  json.member("output_throughput", static_cast<double>(r.output_tokens) / r.duration_s);
  json.member("total_throughput", static_cast<double>(r.input_tokens + r.output_tokens) / r.duration_s);
  json.member("last_gen_throughput", r.last_gen_throughput);
  if (r.mean_idle_s) json.member("mean_gpu_idle_us", *r.mean_idle_s * 1e6);
  json.end_object();
  return json.take();
}

}  // namespace bifocal::bench
