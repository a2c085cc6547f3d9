// A serving benchmark's results as SGLang's tools print and store them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/request_timeline.h"
#include "bench/serving_metrics.h"
#include "bench/workload.h"

namespace bifocal::bench {

struct ServingReport {
  std::string backend;
  double request_rate = 0;  // per second; may be infinite
  int max_concurrency = 0;  // 0: not set
  WorkloadOptions workload;
  std::optional<double> accept_length;  // tokens per step of speculation
  JsonValue server_info;                // null where there is none
  ServingMetrics metrics;
  std::vector<RequestTimeline> timelines;
};

// The block, with its empty first line.
std::string serving_block(const ServingReport& report);

// One line, without its end. With details also what each request did.
std::string serving_json(const ServingReport& report, bool details);

struct OfflineReport {
  std::string backend;
  int64_t requests = 0;
  double duration_s = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  double last_gen_throughput = 0;                    // tokens in the last second
  std::optional<double> mean_idle_s = std::nullopt;  // that a GPU computed nothing between two steps
};
std::string offline_block(const OfflineReport& report);
std::string offline_json(const OfflineReport& report);

}  // namespace bifocal::bench
