// Configurations of the engine side by side: the same requests, in turns and repeated, so that what else the
// machine does meets all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/plot.h"
#include "bench/repeats.h"
#include "bench/table.h"
#include "engine/engine.h"
#include "model/model.h"

namespace bifocal::bench {

struct CompareWorkload {
  int input_len = 0;    // prompt tokens
  int output_len = 0;   // tokens of an answer
  int concurrency = 0;  // requests at a time
};
// "256/32/8". Errors name what is wrong.
Expected<CompareWorkload> parse_compare_workload(std::string_view text);

struct CompareConfig {
  std::string name;
  engine::EngineOptions engine;  // the pool's size and the bounds on requests are set here
};

struct CompareOptions {
  std::vector<CompareConfig> configs;
  std::vector<CompareWorkload> workloads;
  int num_prompts = 0;  // of each run; 0: twice as many as at a time
  int repeats = 3;
  std::function<void()> on_run;  // after each
};

// Over the repeats of one configuration and workload.
struct CompareCell {
  Measured total_tokens_per_s;  // input and output tokens
  Measured ttft_ms;             // median over the requests
  Measured itl_ms;              // mean over the tokens
  bool best = false;            // most tokens per second of its workload
};

struct Comparison {
  std::vector<std::string> configs;
  std::vector<CompareWorkload> workloads;
  std::vector<std::vector<CompareCell>> cells;  // [workload][config]
};

// The model is prepared here. Errors: the engine's (memory, a backend that can't serve the model).
Expected<Comparison> run_compare(model::Model& model, const CompareOptions& options);

// A row per workload and a column per configuration: total tokens/s with their spread, the best in bold.
Table overview_table(const Comparison& comparison);
// A row per workload and configuration, with everything.
Table details_table(const Comparison& comparison);
// A panel for each length of prompt and answer, a line per configuration: total tokens/s over the requests at
// a time.
std::vector<PlotPanel> compare_panels(const Comparison& comparison);

}  // namespace bifocal::bench
