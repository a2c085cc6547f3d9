// Prompts as clients give them: text or token ids, one or a batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "server/options.h"

namespace bifocal::server {

struct Prompt {
  std::string text;  // as given; "" for ids
  std::vector<int32_t> ids;
  bool from_text = false;
};

struct PromptBatch {
  std::vector<Prompt> prompts;
  bool is_batch = false;  // given as a list of prompts, even of one
};

// A JSON array of token ids, each below the vocabulary's size.
Expected<std::vector<int32_t>> parse_token_ids(const JsonValue& value, const std::string& path,
                                               int vocab_size);

// Tokenises within limits. add_special_tokens: the tokenizer's post-processor (a BOS token).
Expected<std::vector<int32_t>> encode_text(const ServingContext& context, const RequestLimits& limits,
                                           std::string_view text, const std::string& path,
                                           const text::EncodeOptions& options);

// string | [string] | [int] | [[int]], as far as allowed.
struct PromptForms {
  bool text = true;
  bool ids = true;
};
Expected<PromptBatch> parse_prompts(const JsonValue& value, const std::string& path, PromptForms forms,
                                    const ServingContext& context, const RequestLimits& limits,
                                    bool add_special_tokens = true);

}  // namespace bifocal::server
