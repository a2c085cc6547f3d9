#include "cli/conversation.h"

#include <utility>

#include "cli/console.h"

namespace bifocal::cli {

Conversation::Conversation(std::string system, bool thinking)
    : has_system_(!system.empty()), thinking_(thinking) {
  if (has_system_) add("system", std::move(system));
}

void Conversation::add(std::string role, std::string content) {
  messages_.emplace_back(JsonValue::Object{{"role", std::move(role)}, {"content", std::move(content)}});
}

void Conversation::clear() {
  messages_.resize(has_system_ ? 1 : 0);
}

void Conversation::undo() {
  messages_.pop_back();
}

Expected<std::vector<text::TokenId>> Conversation::encode(const text::ChatTemplate& chat_template,
                                                          const text::Tokenizer& tokenizer) const {
  text::ChatInput input;
  input.messages = messages_;
  if (!thinking_) input.template_kwargs.emplace_back("enable_thinking", false);
  BIFOCAL_ASSIGN_OR_RETURN(const text::RenderedChat chat, chat_template.render(input));
  return tokenizer.encode(chat.text, {.add_special_tokens = false, .plain_ranges = chat.user_ranges});
}

engine::SamplingParams sampling_params(const Settings& settings, const weights::ModelConfig& config) {
  const PromptSettings& s = settings.prompt;
  engine::SamplingParams params = default_sampling(config);
  if (s.temperature >= 0) params.temperature = s.temperature;
  if (s.top_p >= 0) params.top_p = s.top_p;
  if (s.top_k != 0) params.top_k = static_cast<int>(s.top_k);
  params.max_new_tokens = s.max_tokens;
  params.seed = static_cast<uint64_t>(settings.engine.random_seed);
  return params;
}

}  // namespace bifocal::cli
