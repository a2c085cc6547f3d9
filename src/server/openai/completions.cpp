#include "server/openai/completions.h"

#include "server/fields.h"
#include "server/generation.h"
#include "server/ids.h"
#include "server/openai/reply.h"
#include "server/prompts.h"
#include "server/request_fields.h"
#include "server/sampling.h"
#include "server/token_text.h"

namespace bifocal::server::openai {
namespace {

struct CompletionSettings {
  ReplyHead head;
  StreamSettings stream;
  bool logprobs = false;
  bool echo = false;
  bool score_only = false;  // the one generated token is dropped
  bool skip_special_tokens = true;
};

// One line of the "logprobs" columns.
struct LogprobRow {
  engine::OutputToken token;
  bool has_logprob = true;  // the first token of a prompt has none
  int64_t text_offset = 0;  // in code points
};

class CompletionShaper final : public OutputShaper {
 public:
  CompletionShaper(CompletionSettings settings, std::vector<Prompt> prompts, int n, const Call& call)
      : settings_(std::move(settings)),
        prompts_(std::move(prompts)),
        choices_per_prompt_(static_cast<size_t>(n)),
        tokenizer_(call.context->tokenizer),
        usage_(prompts_.size(), call.services->options.enable_cache_report),
        prompt_rows_(prompts_.size()),
        choices_(prompts_.size() * choices_per_prompt_) {}

  void add(size_t request, engine::OutputEvent event, std::string* sse) override {
    if (settings_.score_only) {
      event.tokens.clear();
      event.text.clear();
      if (event.finish == engine::FinishReason::stop) event.finish = engine::FinishReason::length;
      event.matched_token.reset();
      event.matched_string.reset();
    }
    usage_.count(request, event);
    if (!event.prompt_logprobs.empty()) prompt_rows_[request] = make_prompt_rows(prompts_[request], event);
    const size_t index = request * choices_per_prompt_ + static_cast<size_t>(event.choice);
    Choice& choice = choices_[index];
    if (settings_.echo && !choice.begun) begin_with_prompt(request, choice);
    choice.begun = true;
    choice.text += event.text;
    if (settings_.logprobs) {
      for (engine::OutputToken& token : event.tokens) {
        const int64_t length = count_characters(tokenizer_.get(), token.id, settings_.skip_special_tokens);
        choice.rows.push_back({std::move(token), true, choice.offset});
        choice.offset += length;
      }
    }
    choice.finish = finish_of(event);
    if (sse == nullptr) return;
    *sse += sse_event(chunk(index, choice));
    choice.text.clear();
    choice.rows.clear();
  }

  std::string body() override {
    JsonWriter json;
    json.begin_object();
    write_head(json, settings_.head, "text_completion");
    json.key("choices").begin_array();
    for (size_t i = 0; i < choices_.size(); ++i) write_choice(json, i, choices_[i]);
    json.end_array().key("usage");
    usage_.write(json);
    json.end_object();
    return json.take();
  }

  void end(std::string& sse) override {
    sse += end_of_stream(settings_.stream, settings_.head, "text_completion", usage_);
  }

 private:
  struct Choice {
    bool begun = false;
    std::string text;              // not sent yet
    std::vector<LogprobRow> rows;  // not sent yet
    int64_t offset = 0;            // code points of text so far
    Finish finish;
  };

  std::vector<LogprobRow> make_prompt_rows(const Prompt& prompt, const engine::OutputEvent& event) const {
    std::vector<LogprobRow> rows;
    int64_t offset = 0;
    for (size_t i = 0; i < prompt.ids.size() && i < event.prompt_logprobs.size(); ++i) {
      LogprobRow row;
      row.text_offset = offset;
      row.has_logprob = event.prompt_logprobs[i].has_value();
      if (row.has_logprob) row.token = *event.prompt_logprobs[i];
      row.token.id = prompt.ids[i];
      // A token that the tokenizer put in front of the text has no characters in it.
      const bool added = i == 0 && prompt.from_text && tokenizer_ != nullptr &&
                         !prompt.text.starts_with(tokenizer_->token_bytes(prompt.ids[0]));
      offset += added ? 0 : count_characters(tokenizer_.get(), prompt.ids[i], false);
      rows.push_back(std::move(row));
    }
    return rows;
  }

  void begin_with_prompt(size_t request, Choice& choice) {
    const Prompt& prompt = prompts_[request];
    if (prompt.from_text) {
      choice.text = prompt.text;
    } else if (tokenizer_ != nullptr) {
      choice.text = tokenizer_->decode(prompt.ids, false);
    }
    if (!settings_.logprobs) return;
    choice.rows = prompt_rows_[request];
    choice.offset = count_code_points(choice.text);
  }

  void write_logprobs(JsonWriter& json, const std::vector<LogprobRow>& rows) const {
    json.key("logprobs");
    if (!settings_.logprobs) {
      json.null();
      return;
    }
    json.begin_object();
    json.key("tokens").begin_array();
    for (const LogprobRow& row : rows) json.value(token_text(tokenizer_.get(), row.token.id));
    json.end_array().key("token_logprobs").begin_array();
    for (const LogprobRow& row : rows) row.has_logprob ? json.value(row.token.logprob) : json.null();
    json.end_array().key("top_logprobs").begin_array();
    for (const LogprobRow& row : rows) {
      if (!row.has_logprob) {
        json.null();
        continue;
      }
      json.begin_object();
      for (const engine::TokenLogprob& top : row.token.top_logprobs) {
        json.member(token_key(tokenizer_.get(), top.token_id), top.logprob);
      }
      json.end_object();
    }
    json.end_array().key("text_offset").begin_array();
    for (const LogprobRow& row : rows) json.value(row.text_offset);
    json.end_array().end_object();
  }

  void write_choice(JsonWriter& json, size_t index, const Choice& choice) const {
    json.begin_object();
    json.member("index", static_cast<int64_t>(index)).member("text", choice.text);
    write_logprobs(json, choice.rows);
    write_finish(json, choice.finish);
    json.end_object();
  }

  std::string chunk(size_t index, const Choice& choice) const {
    JsonWriter json;
    json.begin_object();
    write_head(json, settings_.head, "text_completion");
    json.key("choices").begin_array();
    write_choice(json, index, choice);
    json.end_array();
    if (settings_.stream.continuous_usage_stats) {
      json.key("usage");
      usage_.write(json);
    }
    json.end_object();
    return json.take();
  }

  const CompletionSettings settings_;
  const std::vector<Prompt> prompts_;
  const size_t choices_per_prompt_;
  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  UsageCounter usage_;
  std::vector<std::vector<LogprobRow>> prompt_rows_;  // [prompt]
  std::vector<Choice> choices_;                       // [prompt * n + choice]
};

Expected<GenerationPlan> plan_completion(const JsonReader& body, const Call& call) {
  const ServerOptions& options = call.services->options;
  const ServingContext& context = *call.context;
  BIFOCAL_RETURN_IF_ERROR(check_fields(body));
  BIFOCAL_RETURN_IF_ERROR(check_response_format(body));
  BIFOCAL_RETURN_IF_ERROR(body.get_string("model").status());
  CompletionSettings settings;
  BIFOCAL_ASSIGN_OR_RETURN(settings.stream, parse_stream_settings(body));
  BIFOCAL_ASSIGN_OR_RETURN(const ParsedSampling sampling,
                           parse_sampling(body, SamplingDialect::completions, options, context));
  BIFOCAL_ASSIGN_OR_RETURN(const auto logprobs, body.get_int("logprobs", 0, options.limits.max_top_logprobs));
  BIFOCAL_ASSIGN_OR_RETURN(const auto echo, body.get_bool("echo"));
  settings.logprobs = logprobs.has_value();
  settings.echo = echo.value_or(false);
  settings.score_only = sampling.score_only;
  settings.skip_special_tokens = sampling.params.skip_special_tokens;
  if (settings.score_only && !settings.echo) {
    return invalid_argument("max_tokens: got 0, expected at least 1 unless echo is true");
  }
  GenerationPlan plan;
  BIFOCAL_ASSIGN_OR_RETURN(const std::string id, parse_request_id(body, options.limits, "cmpl-"));
  plan.names = {{id}};
  BIFOCAL_ASSIGN_OR_RETURN(plan.timeout_s, parse_timeout_s(body, call));
  BIFOCAL_ASSIGN_OR_RETURN(const uint64_t cache_namespace, parse_cache_namespace(body, call));

  const JsonValue* prompt = body.find("prompt");
  if (prompt == nullptr) return invalid_argument("prompt: missing");
  BIFOCAL_ASSIGN_OR_RETURN(PromptBatch batch, parse_prompts(*prompt, "prompt", {}, context, options.limits));
  for (const Prompt& item : batch.prompts) {
    engine::GenerateRequest request;
    request.prompt_ids = item.ids;
    request.sampling = sampling.params;
    request.return_logprob = settings.logprobs;
    request.top_logprobs_num = static_cast<int>(logprobs.value_or(0));
    request.logprob_start_len = settings.logprobs && settings.echo ? 0 : -1;
    request.cache_namespace = cache_namespace;
    plan.requests.push_back(std::move(request));
  }
  plan.seed_given.assign(plan.requests.size(), sampling.seed_given);
  plan.stream_intervals.assign(plan.requests.size(), sampling.stream_interval);
  plan.stream = settings.stream.stream;
  settings.head = {id, unix_time_s(), context.served_model_name};
  plan.shaper = std::make_unique<CompletionShaper>(std::move(settings), std::move(batch.prompts),
                                                   sampling.params.n, call);
  return plan;
}

}  // namespace

void handle_completions(const Call& call) {
  handle_generation(call, plan_completion);
}

}  // namespace bifocal::server::openai
