#include "server/health.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/generation.h"
#include "server/ids.h"

namespace bifocal::server {
namespace {

// A busy engine whose loop doesn't come round is stuck; an idle one has nothing to show.
bool is_stalled(const Call& call) {
  const auto stats = call.context->engine->stats();
  if (stats->running_requests + stats->queued_requests == 0) return false;
  const int64_t age_ns = SteadyClock::instance().now_ns() - stats->last_step_ns;
  return static_cast<double>(age_ns) * 1e-9 > call.services->options.engine_stall_s;
}

void respond_state(const Call& call, bool ok, std::string_view state) {
  JsonWriter json;
  json.begin_object().member("status", state).end_object();
  http::Response response;
  response.status = ok ? 200 : 503;
  response.body = json.take();
  if (!ok) response.headers.push_back({"Retry-After", "5"});
  call.exchange->respond(response);
}

// Content is of no interest: that there is an answer is the answer.
class ProbeShaper final : public OutputShaper {
 public:
  void add(size_t, engine::OutputEvent, std::string*) override {}
  std::string body() override { return R"({"status":"ready"})"; }
  void end(std::string&) override {}
};

}  // namespace

std::string_view state_name(const Call& call) {
  if (call.context != nullptr && call.context->engine->failed()) return "failed";
  switch (call.services->lifecycle.load()) {
    case Lifecycle::starting:
      return "starting";
    case Lifecycle::ready:
      return "ready";
    case Lifecycle::draining:
      return "draining";
  }
  return "unknown";
}

void handle_health(const Call& call) {
  const std::string_view state = state_name(call);
  respond_state(call, state != "failed", state);
}

void handle_ready(const Call& call) {
  const std::string_view state = state_name(call);
  if (state == "ready" && is_stalled(call)) return respond_state(call, false, "stalled");
  respond_state(call, state == "ready", state);
}

void handle_metrics(const Call& call) {
  MetricsSnapshot snapshot;
  std::shared_ptr<const engine::EngineStats> stats;
  if (call.context != nullptr) {
    const engine::Engine& engine = *call.context->engine;
    stats = engine.stats();
    snapshot.stats = stats.get();
    snapshot.max_total_tokens = engine.max_total_tokens();
    snapshot.context_length = engine.context_length();
    snapshot.page_size = engine.options().page_size;
    snapshot.model_name = call.context->served_model_name;
  }
  snapshot.ready = state_name(call) == "ready";
  snapshot.open_connections = call.services->open_connections;
  snapshot.now_ns = SteadyClock::instance().now_ns();
  http::Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = call.services->metrics.render(snapshot);
  call.exchange->respond(response);
}

void handle_health_generate(const Call& call) {
  GenerationPlan plan;
  plan.names = {{random_id("health-")}};
  engine::GenerateRequest request;
  request.prompt_ids = {0};
  request.sampling.max_new_tokens = 1;
  request.sampling.temperature = 0;
  request.cache_namespace = random_u64();  // leaves nothing that a client's prompt could match
  plan.requests.push_back(std::move(request));
  plan.seed_given = {true};
  plan.shaper = std::make_unique<ProbeShaper>();
  plan.timeout_s = call.services->options.health_generate_timeout_s;
  plan.timeout_error = unavailable_error("not_generating", "no token was generated in time");
  Generation::start(call, std::move(plan));
}

}  // namespace bifocal::server
