#include "server/token_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"

namespace bifocal::server {
namespace {

void write_text_and_bytes(JsonWriter& json, const text::Tokenizer* tokenizer, int32_t id, float logprob) {
  json.member("token", token_text(tokenizer, id));
  json.key("bytes");
  if (tokenizer == nullptr) {
    json.null();
  } else {
    json.begin_array();
    for (char c : tokenizer->token_bytes(id)) json.value(static_cast<int>(static_cast<unsigned char>(c)));
    json.end_array();
  }
  json.member("logprob", logprob);
}

}  // namespace

std::string token_text(const text::Tokenizer* tokenizer, int32_t id) {
  if (tokenizer == nullptr) return fmt::format("token_id:{}", id);
  return replace_invalid_utf8(tokenizer->token_bytes(id));
}

std::string token_key(const text::Tokenizer* tokenizer, int32_t id) {
  if (tokenizer == nullptr) return fmt::format("token_id:{}", id);
  const std::string_view bytes = tokenizer->token_bytes(id);
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string out = "bytes:";
  for (char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

int64_t count_code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

int64_t count_characters(const text::Tokenizer* tokenizer, int32_t id, bool skip_special_tokens) {
  if (tokenizer == nullptr || (skip_special_tokens && tokenizer->is_special(id))) return 0;
  return count_code_points(tokenizer->token_bytes(id));
}

void write_chat_logprob(JsonWriter& json, const text::Tokenizer* tokenizer,
                        const engine::OutputToken& token) {
  json.begin_object();
  write_text_and_bytes(json, tokenizer, token.id, token.logprob);
  json.key("top_logprobs").begin_array();
  for (const engine::TokenLogprob& top : token.top_logprobs) {
    json.begin_object();
    write_text_and_bytes(json, tokenizer, top.token_id, top.logprob);
    json.end_object();
  }
  json.end_array().end_object();
}

void write_native_logprob(JsonWriter& json, const text::Tokenizer* tokenizer, float logprob, int32_t id,
                          bool with_text) {
  json.begin_array().value(logprob).value(int64_t{id});
  if (with_text && tokenizer != nullptr) {
    json.value(token_text(tokenizer, id));
  } else {
    json.null();
  }
  json.end_array();
}

}  // namespace bifocal::server
