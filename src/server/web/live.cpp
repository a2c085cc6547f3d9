#include "server/web/live.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/health.h"

namespace bifocal::server::web {
namespace {

void write_pool(JsonWriter& json, std::string_view name, int64_t pages, int64_t free_pages,
                int64_t cached_pages) {
  json.begin_object().member("name", name).member("pages", pages).member("free_pages", free_pages);
  json.member("cached_pages", cached_pages).end_object();
}

void write_engine(JsonWriter& json, const engine::EngineStats& stats) {
  json.key("engine").begin_object();
  json.member("running_requests", stats.running_requests).member("queued_requests", stats.queued_requests);
  json.member("steps", stats.steps).member("prompt_tokens", stats.prompt_tokens);
  json.member("cached_prompt_tokens", stats.cached_prompt_tokens);
  json.member("generated_tokens", stats.generated_tokens);
  json.member("finished_requests", stats.finished_requests);
  json.member("aborted_requests", stats.aborted_requests).member("failed_requests", stats.failed_requests);
  json.member("retracted_requests", stats.retracted_requests).end_object();

  json.key("kv").begin_array();
  write_pool(json, "full", stats.total_pages, stats.free_pages, stats.cached_pages);
  if (stats.window_pages > 0) {
    write_pool(json, "window", stats.window_pages, stats.free_window_pages, stats.cached_window_pages);
  }
  json.end_array();

  json.key("attention").begin_array();
  for (const auto& use : stats.attention) {
    json.begin_object().member("attention_class", use.attention_class).member("phase", use.phase);
    json.member("backend", use.backend).member("reason", use.reason).member("steps", use.steps);
    json.member("rows", use.rows).member("seconds", use.seconds).end_object();
  }
  json.end_array();
}

}  // namespace

void handle_live(const Call& call) {
  JsonWriter json;
  json.begin_object().member("state", state_name(call)).member("version", BIFOCAL_VERSION);
  json.member("time_ms", SteadyClock::instance().now_ns() / 1'000'000);
  const ServingContext* context = call.context.get();
  json.member("model",
              context == nullptr ? std::string_view() : std::string_view(context->served_model_name));
  if (context == nullptr) {
    json.key("engine").null();
  } else {
    json.member("chat", context->chat_template != nullptr);
    json.member("context_length", context->engine->context_length());
    json.member("max_total_tokens", context->engine->max_total_tokens());
    write_engine(json, *context->engine->stats());
    call.services->metrics.write_latencies(json);
  }
  json.end_object();
  call.respond_json(json.take());
}

}  // namespace bifocal::server::web
