#include "bench/serving_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bifocal::bench {
namespace {

double percentile(const std::vector<double>& sorted, double percent) {
  const double position = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

// The last second may be a part of one.
void count_seconds(const std::vector<RequestTimeline>& timelines, ServingMetrics& metrics) {
  int64_t first_ns = INT64_MAX;
  double end_s = 0;
  for (const RequestTimeline& t : timelines) {
    if (t.ok) first_ns = std::min(first_ns, t.start_ns);
  }
  const auto start_s = [&](const RequestTimeline& t) {
    return static_cast<double>(t.start_ns - first_ns) * 1e-9;
  };
  for (const RequestTimeline& t : timelines) {
    if (t.ok) end_s = std::max(end_s, start_s(t) + t.latency_s);
  }
  std::vector<int64_t> tokens(static_cast<size_t>(end_s) + 1);
  std::vector<int64_t> requests(tokens.size());
  const auto count_token = [&](double time_s) {
    const auto second = static_cast<size_t>(time_s);
    if (second < tokens.size()) ++tokens[second];
  };
  for (const RequestTimeline& t : timelines) {
    if (!t.ok) continue;
    double time_s = start_s(t) + t.ttft_s;
    count_token(time_s);
    for (const double gap_s : t.itl_s) count_token(time_s += gap_s);
    const auto last = static_cast<size_t>(start_s(t) + t.latency_s);
    for (auto second = static_cast<size_t>(start_s(t)); second <= last && second < requests.size();
         ++second) {
      ++requests[second];
    }
  }
  metrics.max_output_tokens_per_s = static_cast<double>(*std::max_element(tokens.begin(), tokens.end()));
  metrics.max_concurrent_requests = *std::max_element(requests.begin(), requests.end());
}

}  // namespace

Distribution distribution_of(std::vector<double> values) {
  Distribution out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.std = std::sqrt(squares / count);
  out.median = percentile(values, 50);
  out.p90 = percentile(values, 90);
  out.p95 = percentile(values, 95);
  out.p99 = percentile(values, 99);
  out.max = values.back();
  return out;
}

Expected<ServingMetrics> serving_metrics(const std::vector<RequestTimeline>& timelines, double duration_s,
                                         const text::Tokenizer* tokenizer) {
  ServingMetrics metrics;
  metrics.duration_s = duration_s;
  std::vector<double> latencies_ms, ttfts_ms, tpots_ms, itls_ms;
  for (const RequestTimeline& t : timelines) {
    if (!t.ok) continue;
    ++metrics.completed;
    metrics.total_input += t.prompt_len;
    metrics.total_output += t.output_len;
    if (tokenizer != nullptr) {
      BIFOCAL_ASSIGN_OR_RETURN(const auto ids, tokenizer->encode(t.text, {.add_special_tokens = false}));
      metrics.total_output_retokenized += static_cast<int64_t>(ids.size());
    }
    latencies_ms.push_back(t.latency_s * 1e3);
    ttfts_ms.push_back(t.ttft_s * 1e3);
    if (t.output_len > 1) {
      tpots_ms.push_back((t.latency_s - t.ttft_s) / static_cast<double>(t.output_len - 1) * 1e3);
    }
    for (const double gap_s : t.itl_s) itls_ms.push_back(gap_s * 1e3);
  }
  if (metrics.completed == 0) return metrics;
  count_seconds(timelines, metrics);
  metrics.request_throughput = static_cast<double>(metrics.completed) / duration_s;
  metrics.input_throughput = static_cast<double>(metrics.total_input) / duration_s;
  metrics.output_throughput = static_cast<double>(metrics.total_output) / duration_s;
  metrics.total_throughput = metrics.input_throughput + metrics.output_throughput;
  metrics.concurrency = std::accumulate(latencies_ms.begin(), latencies_ms.end(), 0.0) * 1e-3 / duration_s;
  metrics.e2e_latency_ms = distribution_of(std::move(latencies_ms));
  metrics.ttft_ms = distribution_of(std::move(ttfts_ms));
  metrics.tpot_ms = distribution_of(std::move(tpots_ms));
  metrics.itl_ms = distribution_of(std::move(itls_ms));
  return metrics;
}

}  // namespace bifocal::bench
