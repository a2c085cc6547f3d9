// Splits streamed text into reasoning (inside <think>...</think>) and content.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::text {

struct ReasoningDelta {
  std::string reasoning;
  std::string content;
};

// The tags are dropped, and with them the newlines at both ends of the reasoning and at the beginning of the
// content. A block is recognised at the start of the text only (after white space); later tags are content. A
// tool call ends reasoning that was not closed, where the format has such calls.
class ReasoningParser {
 public:
  virtual ~ReasoningParser() = default;
  // `name` as in SGLang: "qwen3", "deepseek-r1", ... Unknown: invalid_argument listing the names.
  // starts_in_reasoning: the prompt already opened the block (its text ends with "<think>\n").
  static Expected<std::unique_ptr<ReasoningParser>> create(std::string_view name, bool starts_in_reasoning);
  static std::vector<std::string_view> names();

  // Any chunking of the same text gives the same concatenated result.
  virtual ReasoningDelta push(std::string_view text) = 0;
  virtual ReasoningDelta finish() = 0;
};

}  // namespace bifocal::text
