// Probes and metrics. They answer from the I/O thread and never wait for the engine, except /health_generate.
#pragma once

#include "server/call.h"

namespace bifocal::server {

// Liveness: 200 while starting, ready or draining; 503 once the engine failed.
void handle_health(const Call& call);
// Readiness: 200 only while requests are accepted and the engine's loop comes round.
void handle_ready(const Call& call);
void handle_metrics(const Call& call);
// Really generates one token. Runs on a worker thread.
void handle_health_generate(const Call& call);

// "starting", "ready", "draining" or "failed".
std::string_view state_name(const Call& call);

}  // namespace bifocal::server
