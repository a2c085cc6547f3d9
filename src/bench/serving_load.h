// Sends requests to a server at their times and records what comes back.
#pragma once

#include <functional>
#include <limits>
#include <vector>

#include "bench/request_timeline.h"
#include "bench/seeded_random.h"
#include "server/http/http_client.h"

namespace bifocal::bench {

struct LoadOptions {
  double request_rate = std::numeric_limits<double>::infinity();  // per second, Poisson; inf: all at once
  int max_concurrency = 0;           // a request waits for its turn beyond so many; 0: no bound
  std::function<void()> on_request;  // after each, on the client's thread
  bool ids_only = false;             // the server has no tokenizer (TimelineRecorder)
};

// A request's time begins when it is sent, not when it waits for its turn. `arrivals` draws the gaps.
LoadResult run_load(server::http::HttpClient& client, const ServingApi& api, const AskOptions& ask,
                    const std::vector<WorkloadRequest>& requests, NumpyRandom arrivals,
                    const LoadOptions& options);

}  // namespace bifocal::bench
