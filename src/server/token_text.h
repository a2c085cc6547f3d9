// Tokens as text in logprobs. A token need not be whole characters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace bifocal::server {

// U+FFFD where the token's bytes are not UTF-8; "token_id:7" without a tokenizer.
std::string token_text(const text::Tokenizer* tokenizer, int32_t id);
// As a key that differs for different tokens: "bytes:\xe2\x82" where the bytes are not UTF-8 (OpenAI's
// spelling).
std::string token_key(const text::Tokenizer* tokenizer, int32_t id);
int64_t count_code_points(std::string_view text);  // of UTF-8
// Characters that begin in the token: summed over tokens they are the text's length in code points.
int64_t count_characters(const text::Tokenizer* tokenizer, int32_t id, bool skip_special_tokens);

// Chat: {"token", "bytes", "logprob", "top_logprobs": [...]}.
void write_chat_logprob(JsonWriter& json, const text::Tokenizer* tokenizer, const engine::OutputToken& token);
// Native: [logprob, id, text or null].
void write_native_logprob(JsonWriter& json, const text::Tokenizer* tokenizer, float logprob, int32_t id,
                          bool with_text);

}  // namespace bifocal::server
