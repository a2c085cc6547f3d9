#include "server/native/info.h"

#include "base/json.h"

namespace bifocal::server::native {
namespace {

void write_state(JsonWriter& json, const engine::EngineStats& stats) {
  json.begin_object();
  json.member("last_gen_throughput", stats.last_gen_throughput);
  json.key("avg_spec_accept_length").null();
  json.member("num_running_reqs", stats.running_requests).member("num_queue_reqs", stats.queued_requests);
  json.member("num_pages", stats.total_pages).member("kv_free_pages", stats.free_pages);
  json.member("kv_cached_pages", stats.cached_pages).member("num_used_tokens", stats.used_tokens);
  json.member("swa_num_pages", stats.window_pages).member("swa_free_pages", stats.free_window_pages);
  json.member("swa_cached_pages", stats.cached_window_pages);
  json.key("attention").begin_array();
  for (const auto& use : stats.attention) {
    json.begin_object();
    json.member("attention_class", use.attention_class).member("phase", use.phase);
    json.member("backend", use.backend).member("reason", use.reason);
    json.member("steps", use.steps).member("plans", use.plans).member("rows", use.rows);
    json.member("seconds", use.seconds);
    json.end_object();
  }
  json.end_array().end_object();
}

}  // namespace

void handle_model_info(const Call& call) {
  const ServingContext& context = *call.context;
  JsonWriter json;
  json.begin_object();
  json.member("model_path", context.model_path).member("tokenizer_path", context.tokenizer_path);
  json.member("is_generation", true).key("preferred_sampling_params").null();
  json.member("weight_version", "default").member("model_type", context.model_type);
  json.member("served_model_name", context.served_model_name);
  json.member("context_length", context.engine->context_length()).member("vocab_size", context.vocab_size);
  json.end_object();
  call.respond_json(json.take());
}

void handle_server_info(const Call& call) {
  const ServingContext& context = *call.context;
  const engine::Engine& engine = *context.engine;
  // Flat, as SGLang's: what the server computed wins over an argument of the same name.
  const JsonValue computed_values = JsonValue::Object{
      {"version", JsonValue(BIFOCAL_VERSION)},
      {"model_path", JsonValue(context.model_path)},
      {"tokenizer_path", JsonValue(context.tokenizer_path)},
      {"served_model_name", JsonValue(context.served_model_name)},
      {"max_total_num_tokens", JsonValue(engine.max_total_tokens())},
      {"max_req_input_len", JsonValue(engine.max_request_input_tokens())},
      {"context_length", JsonValue(engine.context_length())},
      {"page_size", JsonValue(engine.options().page_size)},
      {"overlap_schedule", JsonValue(engine.options().overlap_schedule)},
  };
  JsonWriter json;
  json.begin_object();
  for (const auto& [name, value] : computed_values.as_object()) json.member(name, value);
  for (const auto& [name, value] : context.server_args) {
    const bool computed = name == "internal_states" || computed_values.find(name) != nullptr;
    if (!computed) json.member(name, value);
  }
  json.key("internal_states").begin_array();
  write_state(json, *engine.stats());
  json.end_array().end_object();
  call.respond_json(json.take());
}

}  // namespace bifocal::server::native
