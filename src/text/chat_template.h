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
  // Array of {role, content, ...} as in the OpenAI API. Members that are null count as absent.
  JsonValue messages;
  JsonValue tools;  // array or null
  // Further variables (enable_thinking, ...); they may not shadow messages, tools, special tokens or
  // functions.
  JsonValue::Object template_kwargs;
  bool add_generation_prompt = true;
};

struct RenderedChat {
  std::string text;
  // Bytes that came from messages, tools or template_kwargs, not from the template (sorted, disjoint). The
  // usual roles ("user", "tool", ...) count as the template's: some templates make special tokens of them.
  std::vector<ByteRange> user_ranges;
};

// Steps are operations of the template, each of which takes less than some 100 ns; work on long texts and
// lists counts one step per 64 bytes or items.
struct TemplateLimits {
  int64_t max_steps = 1'000'000;
  size_t max_output_bytes = size_t{4} << 20;  // also of every text on the way
  int max_depth = 100;                        // of expressions, statements and values
};

// Thread-safe: many chats may be rendered at once.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // Compiles the template; errors name line and column. `variables` (bos_token, ...) are the template's own
  // words.
  static Expected<std::unique_ptr<ChatTemplate>> compile(std::string_view source, JsonValue::Object variables,
                                                         const TemplateLimits& limits = {});
  // Reads the special tokens (bos_token, ...) from tokenizer_config.json in `directory`, and
  // chat_template.jinja beside it or else the chat_template in it. not_found when the model has none.
  static Expected<std::unique_ptr<ChatTemplate>> load(const std::string& directory);

  // A template's raise_exception (its message as it is) and exceeded limits are invalid_argument.
  virtual Expected<RenderedChat> render(const ChatInput& input) const = 0;
};

}  // namespace bifocal::text
