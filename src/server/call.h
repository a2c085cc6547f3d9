// What a handler gets: the exchange, the model and the services it may use.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "server/api_error.h"
#include "server/http/exchange.h"
#include "server/live_requests.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/profiler.h"
#include "server/worker_pool.h"

namespace bifocal::server {

enum class Lifecycle : uint8_t { starting, ready, draining };

struct Services {
  Services(const ServerOptions& opts, int prepare_threads)
      : options(opts), profiler(opts.profile_dir), output("output", 1), prepare("prepare", prepare_threads) {}

  const ServerOptions& options;
  Metrics metrics;
  LiveRequests live;
  Profiler profiler;
  std::atomic<uint64_t> num_seeds{0};
  std::atomic<Lifecycle> lifecycle{Lifecycle::starting};
  std::atomic<int> open_connections{0};
  // Apart, so that a large prompt never holds up the tokens of others. `prepare` ends first: its jobs use
  // `output`.
  WorkerPool output;   // formatting of what the engine produced
  WorkerPool prepare;  // parsing, templates, tokenising
};

struct Call {
  std::shared_ptr<http::Exchange> exchange;
  std::shared_ptr<const ServingContext> context;  // null only in handlers that work while the model loads
  Services* services = nullptr;

  void fail(const ApiError& error) const;
  void fail(const Status& status) const { fail(to_api_error(status)); }
  void respond_json(std::string json) const;
};

using Handler = void (*)(const Call&);

}  // namespace bifocal::server
