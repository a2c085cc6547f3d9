// From a chat request's messages to token ids, through the model's template.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "server/options.h"

namespace bifocal::server::openai {

struct ChatPrompt {
  std::vector<int32_t> ids;
  std::string text;           // as rendered
  bool in_reasoning = false;  // the prompt ends inside an open <think> block
};

// Reads messages, tools, tool_choice, chat_template_kwargs, reasoning_effort, continue_final_message,
// add_generation_prompt. /v1/chat/completions and /tokenize share it.
Expected<ChatPrompt> build_chat_prompt(const JsonReader& body, const ServingContext& context,
                                       const RequestLimits& limits);

}  // namespace bifocal::server::openai
