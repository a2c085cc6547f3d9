// Renders a conversation with the model's own chat template (a bounded Jinja subset).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

namespace bifocal::text {

struct ChatInput {
  JsonValue messages;  // array of {role, content, ...} as in the OpenAI API
  JsonValue tools;     // array or null
  JsonValue::Object
      template_kwargs;  // scalars only (enable_thinking, ...); may not shadow messages, tools, ...
  bool add_generation_prompt = true;
};

struct RenderedChat {
  std::string text;
  std::vector<ByteRange>
      user_ranges;  // bytes that came from messages or tools, not from the template's literals
};

struct TemplateLimits {
  int64_t max_steps = 1'000'000;
  size_t max_output_bytes = size_t{4} << 20;
  int max_depth = 100;
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // Compiles the template; errors name line and column.
  static Expected<std::unique_ptr<ChatTemplate>> compile(std::string_view source, JsonValue::Object variables,
                                                         const TemplateLimits& limits = {});
  // Reads chat_template and the special tokens (bos_token, ...) from tokenizer_config.json in `directory`, or
  // chat_template.jinja beside it. not_found when the model has none.
  static Expected<std::unique_ptr<ChatTemplate>> load(const std::string& directory);

  // A template's raise_exception and exceeded limits are invalid_argument.
  virtual Expected<RenderedChat> render(const ChatInput& input) const = 0;
};

}  // namespace bifocal::text
