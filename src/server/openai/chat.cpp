#include "server/openai/chat.h"

#include "server/fields.h"
#include "server/generation.h"
#include "server/ids.h"
#include "server/openai/chat_prompt.h"
#include "server/openai/reply.h"
#include "server/prompts.h"
#include "server/request_fields.h"
#include "server/sampling.h"
#include "server/token_text.h"
#include "text/reasoning_parser.h"

namespace bifocal::server::openai {
namespace {

using text::ReasoningDelta;
using text::ReasoningParser;

struct ChatSettings {
  ReplyHead head;
  StreamSettings stream;
  bool logprobs = false;
  bool stream_reasoning = true;  // false: the reasoning comes in one piece, when it is over
};

class ChatShaper final : public OutputShaper {
 public:
  // parsers: one per choice, or none.
  ChatShaper(ChatSettings settings, size_t num_choices, std::vector<std::unique_ptr<ReasoningParser>> parsers,
             const Call& call)
      : settings_(std::move(settings)),
        tokenizer_(call.context->tokenizer),
        usage_(1, call.services->options.enable_cache_report),
        choices_(num_choices) {
    for (size_t i = 0; i < parsers.size(); ++i) choices_[i].parser = std::move(parsers[i]);
  }

  void add(size_t request, engine::OutputEvent event, std::string* sse) override {
    usage_.count(request, event);
    const auto index = static_cast<size_t>(event.choice);
    Choice& choice = choices_[index];
    const bool over = event.finish != engine::FinishReason::none;
    split(choice, event.text, over);
    if (settings_.logprobs) {
      choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(event.tokens.begin()),
                           std::make_move_iterator(event.tokens.end()));
    }
    choice.finish = finish_of(event);
    if (sse != nullptr) stream(index, choice, over, *sse);
  }

  std::string body() override {
    JsonWriter json;
    json.begin_object();
    write_head(json, settings_.head, "chat.completion");
    json.key("choices").begin_array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Choice& choice = choices_[i];
      json.begin_object().member("index", static_cast<int64_t>(i));
      json.key("message").begin_object();
      json.member("role", "assistant").member("content", choice.content);
      json.key("reasoning_content");
      choice.reasoning.empty() ? json.null() : json.value(choice.reasoning);
      json.key("tool_calls").null();
      json.end_object();
      write_logprobs(json, choice);
      write_finish(json, choice.finish);
      json.end_object();
    }
    json.end_array().key("usage");
    usage_.write(json);
    json.end_object();
    return json.take();
  }

  void end(std::string& sse) override {
    sse += end_of_stream(settings_.stream, settings_.head, "chat.completion.chunk", usage_);
  }

 private:
  struct Choice {
    std::unique_ptr<ReasoningParser> parser;
    bool begun = false;
    std::string reasoning;                    // not sent yet
    std::string content;                      // not sent yet
    std::vector<engine::OutputToken> tokens;  // not sent yet; with logprobs only
    Finish finish;
  };

  static void split(Choice& choice, const std::string& text, bool over) {
    if (choice.parser == nullptr) {
      choice.content += text;
      return;
    }
    ReasoningDelta delta = choice.parser->push(text);
    choice.reasoning += delta.reasoning;
    choice.content += delta.content;
    if (!over) return;
    delta = choice.parser->finish();
    choice.reasoning += delta.reasoning;
    choice.content += delta.content;
  }

  void stream(size_t index, Choice& choice, bool over, std::string& sse) {
    if (!choice.begun) {
      choice.begun = true;
      sse += chunk(
          index, {}, [](JsonWriter& json) { json.member("role", "assistant").member("content", ""); },
          nullptr);
    }
    // Reasoning and content never share a chunk. Logprobs go with the first chunk of their tokens.
    const bool reasoning_due = settings_.stream_reasoning || !choice.content.empty() || over;
    const Choice* logprobs = &choice;
    if (!choice.reasoning.empty() && reasoning_due) {
      sse += chunk(
          index, {}, [&](JsonWriter& json) { json.member("reasoning_content", choice.reasoning); }, logprobs);
      choice.reasoning.clear();
      choice.tokens.clear();
    }
    if (!choice.content.empty()) {
      sse += chunk(
          index, {}, [&](JsonWriter& json) { json.member("content", choice.content); }, logprobs);
      choice.content.clear();
      choice.tokens.clear();
    }
    if (over) {
      sse += chunk(
          index, choice.finish, [](JsonWriter&) {}, logprobs);
      choice.tokens.clear();
    }
  }

  template <class WriteDelta>
  std::string chunk(size_t index, const Finish& finish, WriteDelta write_delta,
                    const Choice* logprobs) const {
    JsonWriter json;
    json.begin_object();
    write_head(json, settings_.head, "chat.completion.chunk");
    json.key("choices").begin_array().begin_object();
    json.member("index", static_cast<int64_t>(index));
    json.key("delta").begin_object();
    write_delta(json);
    json.end_object();
    if (logprobs != nullptr && !logprobs->tokens.empty()) {
      write_logprobs(json, *logprobs);
    } else {
      json.key("logprobs").null();
    }
    write_finish(json, finish);
    json.end_object().end_array();
    if (settings_.stream.continuous_usage_stats) {
      json.key("usage");
      usage_.write(json);
    }
    json.end_object();
    return sse_event(json.text());
  }

  void write_logprobs(JsonWriter& json, const Choice& choice) const {
    json.key("logprobs");
    if (!settings_.logprobs) {
      json.null();
      return;
    }
    json.begin_object().key("content").begin_array();
    for (const engine::OutputToken& token : choice.tokens) write_chat_logprob(json, tokenizer_.get(), token);
    json.end_array().end_object();
  }

  const ChatSettings settings_;
  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  UsageCounter usage_;
  std::vector<Choice> choices_;
};

Expected<int> parse_top_logprobs(const JsonReader& body, const RequestLimits& limits, bool& wanted) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto logprobs, body.get_bool("logprobs"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto top, body.get_int("top_logprobs", 0, limits.max_top_logprobs));
  wanted = logprobs.value_or(false);
  if (top.value_or(0) > 0 && !wanted) return invalid_argument("top_logprobs: needs logprobs to be true");
  return static_cast<int>(top.value_or(0));
}

Status check_modalities(const JsonReader& body) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto* modalities, body.get_array("modalities"));
  if (modalities == nullptr) return {};
  for (const JsonValue& modality : *modalities) {
    if (modality != JsonValue("text")) return unsupported("modalities: only \"text\" is supported");
  }
  return {};
}

// messages, or input_ids in their place.
Expected<ChatPrompt> parse_chat_prompt(const JsonReader& body, const Call& call) {
  const RequestLimits& limits = call.services->options.limits;
  const JsonValue* ids = body.find("input_ids");
  if (ids == nullptr) return build_chat_prompt(body, *call.context, limits);
  ChatPrompt prompt;
  BIFOCAL_ASSIGN_OR_RETURN(prompt.ids, parse_token_ids(*ids, "input_ids", call.context->vocab_size));
  return prompt;
}

Expected<GenerationPlan> plan_chat(const JsonReader& body, const Call& call) {
  const ServerOptions& options = call.services->options;
  const ServingContext& context = *call.context;
  BIFOCAL_RETURN_IF_ERROR(check_fields(body));
  BIFOCAL_RETURN_IF_ERROR(check_response_format(body));
  BIFOCAL_RETURN_IF_ERROR(check_modalities(body));
  BIFOCAL_RETURN_IF_ERROR(body.get_string("model").status());
  ChatSettings settings;
  BIFOCAL_ASSIGN_OR_RETURN(settings.stream, parse_stream_settings(body));
  BIFOCAL_ASSIGN_OR_RETURN(const ParsedSampling sampling,
                           parse_sampling(body, SamplingDialect::chat, options, context));
  BIFOCAL_ASSIGN_OR_RETURN(const int top_logprobs,
                           parse_top_logprobs(body, options.limits, settings.logprobs));
  BIFOCAL_ASSIGN_OR_RETURN(const auto separate, body.get_bool("separate_reasoning"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto stream_reasoning, body.get_bool("stream_reasoning"));
  settings.stream_reasoning = stream_reasoning.value_or(true);

  GenerationPlan plan;
  BIFOCAL_ASSIGN_OR_RETURN(const std::string id, parse_request_id(body, options.limits, "chatcmpl-"));
  plan.names = {{id}};
  BIFOCAL_ASSIGN_OR_RETURN(plan.timeout_s, parse_timeout_s(body, call));
  engine::GenerateRequest request;
  BIFOCAL_ASSIGN_OR_RETURN(request.cache_namespace, parse_cache_namespace(body, call));
  BIFOCAL_ASSIGN_OR_RETURN(ChatPrompt prompt, parse_chat_prompt(body, call));
  request.prompt_ids = std::move(prompt.ids);
  request.sampling = sampling.params;
  request.return_logprob = settings.logprobs;
  request.top_logprobs_num = top_logprobs;
  plan.requests.push_back(std::move(request));
  plan.seed_given = {sampling.seed_given};
  plan.stream_intervals = {sampling.stream_interval};
  plan.stream = settings.stream.stream;

  const auto num_choices = static_cast<size_t>(sampling.params.n);
  std::vector<std::unique_ptr<ReasoningParser>> parsers;
  if (!options.reasoning_parser.empty() && separate.value_or(true)) {
    for (size_t i = 0; i < num_choices; ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(auto parser,
                               ReasoningParser::create(options.reasoning_parser, prompt.in_reasoning));
      parsers.push_back(std::move(parser));
    }
  }
  settings.head = {id, unix_time_s(), context.served_model_name};
  plan.shaper = std::make_unique<ChatShaper>(std::move(settings), num_choices, std::move(parsers), call);
  return plan;
}

}  // namespace

void handle_chat(const Call& call) {
  handle_generation(call, plan_chat);
}

}  // namespace bifocal::server::openai
