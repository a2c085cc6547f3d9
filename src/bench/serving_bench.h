// A serving benchmark from start to end: any server that speaks one of the APIs, asked over HTTP.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "bench/serving_load.h"
#include "bench/serving_report.h"
#include "bench/workload.h"

namespace bifocal::bench {

struct ServingBenchOptions {
  std::string base_url;
  std::string backend = "bifocal";
  std::string api_key;
  std::string model;      // name to send; empty: the first of GET /v1/models
  std::string tokenizer;  // tokenizer.json or its directory; empty: where GET /model_info says it is
  WorkloadOptions workload;
  double request_rate = std::numeric_limits<double>::infinity();
  int max_concurrency = 0;
  int num_warmups = 1;  // copies of the first request, of at most 32 tokens
  bool stream = true;
  bool ignore_eos = true;
  double temperature = 0;
  std::string extra_body;    // a JSON object whose members are sent with each request
  bool flush_cache = false;  // after the warm-up
  bool profile = false;      // between POST /start_profile and POST /stop_profile
  double ready_timeout_s = 60;
};

// Errors: invalid_argument for options that don't fit together; unavailable when the server doesn't answer,
// or when no request succeeds. Requests that fail while others succeed are in the report.
Expected<ServingReport> run_serving_bench(const ServingBenchOptions& options);

// A tokenizer.json, or the one in a directory.
Expected<std::unique_ptr<text::Tokenizer>> load_tokenizer(const std::string& path);

}  // namespace bifocal::bench
