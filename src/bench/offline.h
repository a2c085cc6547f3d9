// The requests of a benchmark on an engine in this process, without HTTP.
#pragma once

#include <vector>

#include "bench/request_timeline.h"
#include "engine/engine.h"

namespace bifocal::bench {

struct OfflineOptions {
  int max_concurrency = 0;  // a request waits for its turn beyond so many; 0: no bound
  bool ignore_eos = true;
};

// Greedy. The requests hold token ids. Errors: the engine's, for the first request that fails.
Expected<LoadResult> run_offline(engine::Engine& engine, const std::vector<WorkloadRequest>& requests,
                                 const OfflineOptions& options);

// Tokens in the last second before the last of them.
double last_gen_throughput(const std::vector<RequestTimeline>& timelines);

// The beginnings of the first few, to be run before anything is timed.
std::vector<WorkloadRequest> warmup_requests(const std::vector<WorkloadRequest>& requests);

}  // namespace bifocal::bench
