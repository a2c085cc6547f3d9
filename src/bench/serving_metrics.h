// The figures of a serving benchmark, defined as SGLang's bench_serving defines them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "bench/request_timeline.h"
#include "text/tokenizer.h"

namespace bifocal::bench {

// Of a set of values; all 0 of an empty one. Percentiles are interpolated linearly.
struct Distribution {
  double mean = 0, median = 0, std = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};
Distribution distribution_of(std::vector<double> values);

struct ServingMetrics {
  int64_t completed = 0;  // requests; the others count nowhere
  double duration_s = 0;
  int64_t total_input = 0;               // tokens, as the dataset counts them
  int64_t total_output = 0;              // tokens
  int64_t total_output_retokenized = 0;  // tokens of the texts that came
  double request_throughput = 0;         // per second of the whole run, as the next three
  double input_throughput = 0;
  double output_throughput = 0;
  double total_throughput = 0;          // input and output tokens
  double concurrency = 0;               // sum of the latencies / duration
  double max_output_tokens_per_s = 0;   // in the best whole second from the first request's start
  int64_t max_concurrent_requests = 0;  // in the fullest of those seconds
  Distribution e2e_latency_ms;
  Distribution ttft_ms;
  Distribution tpot_ms;  // (latency - ttft) / (output tokens - 1) of requests with more than one
  Distribution itl_ms;   // of all requests together
};

// tokenizer may be null: nothing is retokenized. Errors: none but the tokenizer's.
Expected<ServingMetrics> serving_metrics(const std::vector<RequestTimeline>& timelines, double duration_s,
                                         const text::Tokenizer* tokenizer);

}  // namespace bifocal::bench
