#include "server/native/generate_shaper.h"

#include "base/clock.h"
#include "server/token_text.h"

namespace bifocal::server::native {

GenerateShaper::GenerateShaper(GenerateSettings settings, std::vector<Prompt> prompts,
                               const std::vector<int>& choices,
                               std::shared_ptr<const text::Tokenizer> tokenizer)
    : settings_(std::move(settings)),
      prompts_(std::move(prompts)),
      tokenizer_(std::move(tokenizer)),
      started_ns_(SteadyClock::instance().now_ns()),
      prompt_logprobs_(prompts_.size()) {
  for (size_t i = 0; i < prompts_.size(); ++i) {
    first_choice_.push_back(choices_.size());
    Choice choice;
    choice.prompt = i;
    choices_.insert(choices_.end(), static_cast<size_t>(choices[i]), choice);
  }
}

void GenerateShaper::add(size_t request, engine::OutputEvent event, std::string* sse) {
  const size_t index = first_choice_[request] + static_cast<size_t>(event.choice);
  Choice& choice = choices_[index];
  if (!event.prompt_logprobs.empty()) prompt_logprobs_[request] = std::move(event.prompt_logprobs);
  if (settings_.prompts[request].score_only) {
    event.tokens.clear();
    event.text.clear();
    event.matched_token.reset();
    event.matched_string.reset();
    if (event.finish == engine::FinishReason::stop) event.finish = engine::FinishReason::length;
  }
  choice.text += event.text;
  choice.completion_tokens += static_cast<int64_t>(event.tokens.size());
  choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(event.tokens.begin()),
                       std::make_move_iterator(event.tokens.end()));
  choice.prompt_tokens = event.prompt_tokens;
  choice.cached_tokens = event.cached_tokens;
  choice.finish = event.finish;
  choice.matched_token = event.matched_token;
  choice.matched_string = std::move(event.matched_string);
  choice.abort_message = event.error.message();
  choice.latency_s = static_cast<double>(SteadyClock::instance().now_ns() - started_ns_) * 1e-9;
  if (sse == nullptr) return;
  JsonWriter json;
  write_choice(json, choice, settings_.as_list ? std::optional<size_t>(index) : std::nullopt);
  *sse += "data: " + json.text() + "\n\n";
  if (settings_.incremental) {
    choice.text.clear();
    choice.tokens.clear();
  }
}

std::string GenerateShaper::body() {
  JsonWriter json;
  if (settings_.as_list) json.begin_array();
  for (const Choice& choice : choices_) write_choice(json, choice, std::nullopt);
  if (settings_.as_list) json.end_array();
  return json.take();
}

void GenerateShaper::end(std::string& sse) {
  sse += "data: [DONE]\n\n";
}

void GenerateShaper::write_choice(JsonWriter& json, const Choice& choice, std::optional<size_t> index) const {
  const PromptSettings& prompt = settings_.prompts[choice.prompt];
  json.begin_object();
  if (index) json.member("index", static_cast<int64_t>(*index));
  json.member("text", choice.text);
  json.key("output_ids").begin_array();
  for (const engine::OutputToken& token : choice.tokens) json.value(int64_t{token.id});
  json.end_array();
  json.key("meta_info").begin_object();
  json.member("id", prompt.id);
  write_finish(json, choice);
  json.member("prompt_tokens", choice.prompt_tokens).member("completion_tokens", choice.completion_tokens);
  json.member("cached_tokens", choice.cached_tokens).member("weight_version", "default");
  json.member("e2e_latency", choice.latency_s);
  if (prompt.return_logprob) write_logprobs(json, choice);
  json.end_object().end_object();
}

void GenerateShaper::write_finish(JsonWriter& json, const Choice& choice) const {
  json.key("finish_reason");
  switch (choice.finish) {
    case engine::FinishReason::none:
      json.null();
      return;
    case engine::FinishReason::stop:
      json.begin_object().member("type", "stop").key("matched");
      if (choice.matched_string) {
        json.value(*choice.matched_string);
      } else if (choice.matched_token) {
        json.value(int64_t{*choice.matched_token});
      } else {
        json.null();
      }
      json.end_object();
      return;
    case engine::FinishReason::length:
      json.begin_object().member("type", "length");
      json.member("length", choice.completion_tokens).end_object();
      return;
    case engine::FinishReason::abort:
    case engine::FinishReason::error:
      json.begin_object().member("type", "abort").member("message", choice.abort_message).end_object();
      return;
  }
}

void GenerateShaper::write_top(JsonWriter& json, const std::vector<engine::TokenLogprob>& top) const {
  json.begin_array();
  for (const engine::TokenLogprob& entry : top) {
    write_native_logprob(json, tokenizer_.get(), entry.logprob, entry.token_id, settings_.text_in_logprobs);
  }
  json.end_array();
}

void GenerateShaper::write_logprobs(JsonWriter& json, const Choice& choice) const {
  const PromptSettings& settings = settings_.prompts[choice.prompt];
  const auto& inputs = prompt_logprobs_[choice.prompt];
  const auto& ids = prompts_[choice.prompt].ids;
  const auto begin = static_cast<size_t>(std::max<int64_t>(0, settings.logprob_start_len));
  json.key("input_token_logprobs").begin_array();
  for (size_t i = 0; i < inputs.size() && begin + i < ids.size(); ++i) {
    if (inputs[i]) {
      write_native_logprob(json, tokenizer_.get(), inputs[i]->logprob, ids[begin + i],
                           settings_.text_in_logprobs);
      continue;
    }
    json.begin_array().null().value(int64_t{ids[begin + i]});
    if (settings_.text_in_logprobs && tokenizer_ != nullptr) {
      json.value(token_text(tokenizer_.get(), ids[begin + i]));
    } else {
      json.null();
    }
    json.end_array();
  }
  json.end_array().key("output_token_logprobs").begin_array();
  for (const engine::OutputToken& token : choice.tokens) {
    write_native_logprob(json, tokenizer_.get(), token.logprob, token.id, settings_.text_in_logprobs);
  }
  json.end_array();
  if (settings.top_logprobs_num == 0) return;
  json.key("input_top_logprobs").begin_array();
  for (const auto& input : inputs) {
    if (input) {
      write_top(json, input->top_logprobs);
    } else {
      json.null();
    }
  }
  json.end_array().key("output_top_logprobs").begin_array();
  for (const engine::OutputToken& token : choice.tokens) write_top(json, token.top_logprobs);
  json.end_array();
}

}  // namespace bifocal::server::native
