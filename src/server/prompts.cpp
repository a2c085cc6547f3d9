#include "server/prompts.h"

#include <fmt/format.h>

namespace bifocal::server {
namespace {

Expected<Prompt> parse_text_prompt(const JsonValue& value, const std::string& path,
                                   const ServingContext& context, const RequestLimits& limits,
                                   bool add_special_tokens) {
  if (!value.is_string()) return type_error(path, "string", value);
  Prompt prompt;
  prompt.text = value.as_string();
  prompt.from_text = true;
  text::EncodeOptions options;
  options.add_special_tokens = add_special_tokens;
  BIFOCAL_ASSIGN_OR_RETURN(prompt.ids, encode_text(context, limits, prompt.text, path, options));
  return prompt;
}

Expected<Prompt> parse_id_prompt(const JsonValue& value, const std::string& path,
                                 const ServingContext& context) {
  Prompt prompt;
  BIFOCAL_ASSIGN_OR_RETURN(prompt.ids, parse_token_ids(value, path, context.vocab_size));
  return prompt;
}

std::string_view expected_forms(PromptForms forms) {
  if (!forms.ids) return "string or array of strings";
  if (!forms.text) return "array of token ids or array of such arrays";
  return "string, array of strings, array of token ids or array of such arrays";
}

}  // namespace

Expected<std::vector<int32_t>> parse_token_ids(const JsonValue& value, const std::string& path,
                                               int vocab_size) {
  if (!value.is_array()) return type_error(path, "array of token ids", value);
  std::vector<int32_t> ids;
  ids.reserve(value.as_array().size());
  for (const JsonValue& item : value.as_array()) {
    if (!item.is_int() || item.as_int() < 0 || item.as_int() >= vocab_size) {
      return invalid_argument(
          fmt::format("{}[{}]: expected a token id from 0 to {}", path, ids.size(), vocab_size - 1));
    }
    ids.push_back(static_cast<int32_t>(item.as_int()));
  }
  return ids;
}

Expected<std::vector<int32_t>> encode_text(const ServingContext& context, const RequestLimits& limits,
                                           std::string_view text, const std::string& path,
                                           const text::EncodeOptions& options) {
  if (context.tokenizer == nullptr) {
    return invalid_argument(path + ": this server runs without a tokenizer; send token ids instead");
  }
  if (text.size() > limits.max_prompt_bytes) {
    return invalid_argument(
        fmt::format("{}: {} bytes of text, expected at most {}", path, text.size(), limits.max_prompt_bytes));
  }
  return context.tokenizer->encode(text, options);
}

Expected<PromptBatch> parse_prompts(const JsonValue& value, const std::string& path, PromptForms forms,
                                    const ServingContext& context, const RequestLimits& limits,
                                    bool add_special_tokens) {
  PromptBatch batch;
  if (forms.text && value.is_string()) {
    BIFOCAL_ASSIGN_OR_RETURN(Prompt prompt,
                             parse_text_prompt(value, path, context, limits, add_special_tokens));
    batch.prompts.push_back(std::move(prompt));
    return batch;
  }
  if (!value.is_array()) return type_error(path, expected_forms(forms), value);
  const auto& array = value.as_array();
  if (array.empty()) return invalid_argument(path + ": the array is empty");
  if (forms.ids && array[0].is_int()) {
    BIFOCAL_ASSIGN_OR_RETURN(Prompt prompt, parse_id_prompt(value, path, context));
    batch.prompts.push_back(std::move(prompt));
    return batch;
  }
  if (array.size() > limits.max_prompts) {
    return invalid_argument(
        fmt::format("{}: {} prompts, expected at most {}", path, array.size(), limits.max_prompts));
  }
  batch.is_batch = true;
  for (size_t i = 0; i < array.size(); ++i) {
    const std::string item_path = fmt::format("{}[{}]", path, i);
    // All of one kind: the first tells which.
    if (forms.text && array[0].is_string()) {
      BIFOCAL_ASSIGN_OR_RETURN(Prompt prompt,
                               parse_text_prompt(array[i], item_path, context, limits, add_special_tokens));
      batch.prompts.push_back(std::move(prompt));
    } else if (forms.ids && array[0].is_array()) {
      BIFOCAL_ASSIGN_OR_RETURN(Prompt prompt, parse_id_prompt(array[i], item_path, context));
      if (prompt.ids.empty()) return invalid_argument(item_path + ": the array is empty");
      batch.prompts.push_back(std::move(prompt));
    } else {
      return type_error(item_path, expected_forms(forms), array[i]);
    }
  }
  return batch;
}

}  // namespace bifocal::server
