#include "server/openai/reply.h"

namespace bifocal::server::openai {
Expected<StreamSettings> parse_stream_settings(const JsonReader& body) {
  StreamSettings settings;
  BIFOCAL_ASSIGN_OR_RETURN(const auto stream, body.get_bool("stream"));
  settings.stream = stream.value_or(false);
  BIFOCAL_ASSIGN_OR_RETURN(const auto options, body.get_object("stream_options"));
  if (!options) return settings;
  if (!settings.stream) return invalid_argument("stream_options: only allowed when stream is true");
  BIFOCAL_ASSIGN_OR_RETURN(const auto include_usage, options->get_bool("include_usage"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto continuous, options->get_bool("continuous_usage_stats"));
  settings.include_usage = include_usage.value_or(false);
  settings.continuous_usage_stats = continuous.value_or(false);
  return settings;
}

Status check_response_format(const JsonReader& body) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto format, body.get_object("response_format"));
  if (!format) return {};
  BIFOCAL_ASSIGN_OR_RETURN(const auto type, format->get_string("type"));
  if (type == "text") return {};
  return unsupported("response_format.type: constrained output is not supported; only \"text\" is");
}

void write_head(JsonWriter& json, const ReplyHead& head, std::string_view object) {
  json.member("id", head.id)
      .member("object", object)
      .member("created", head.created_s)
      .member("model", head.model);
}

void UsageCounter::count(size_t request, const engine::OutputEvent& event) {
  prompts_[request] = {event.prompt_tokens, event.cached_tokens};
  completion_tokens_ += static_cast<int64_t>(event.tokens.size());
}

void UsageCounter::write(JsonWriter& json) const {
  PromptCount sum;
  for (const PromptCount& prompt : prompts_) {
    sum.prompt_tokens += prompt.prompt_tokens;
    sum.cached_tokens += prompt.cached_tokens;
  }
  json.begin_object();
  json.member("prompt_tokens", sum.prompt_tokens).member("completion_tokens", completion_tokens_);
  json.member("total_tokens", sum.prompt_tokens + completion_tokens_);
  json.key("prompt_tokens_details");
  if (cache_report_) {
    json.begin_object().member("cached_tokens", sum.cached_tokens).end_object();
  } else {
    json.null();
  }
  json.end_object();
}

Finish finish_of(const engine::OutputEvent& event) {
  return {event.finish, event.matched_token, event.matched_string};
}

void write_finish(JsonWriter& json, const Finish& finish) {
  json.key("finish_reason");
  switch (finish.reason) {
    case engine::FinishReason::none:
      json.null();
      break;
    case engine::FinishReason::stop:
      json.value("stop");
      break;
    case engine::FinishReason::length:
      json.value("length");
      break;
    case engine::FinishReason::abort:
    case engine::FinishReason::error:
      json.value("abort");
      break;
  }
  json.key("matched_stop");
  if (finish.text) {
    json.value(*finish.text);
  } else if (finish.token) {
    json.value(int64_t{*finish.token});
  } else {
    json.null();
  }
}

std::string sse_event(const std::string& json) {
  return "data: " + json + "\n\n";
}

std::string end_of_stream(const StreamSettings& settings, const ReplyHead& head, std::string_view object,
                          const UsageCounter& usage) {
  const std::string done = "data: [DONE]\n\n";
  if (!settings.include_usage) return done;
  JsonWriter json;
  json.begin_object();
  write_head(json, head, object);
  json.key("choices").begin_array().end_array().key("usage");
  usage.write(json);
  json.end_object();
  return sse_event(json.text()) + done;
}

}  // namespace bifocal::server::openai
