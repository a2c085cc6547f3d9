#include "server/native/tokenize.h"

#include "server/fields.h"
#include "server/openai/chat_prompt.h"
#include "server/prompts.h"
#include "server/request_fields.h"

namespace bifocal::server::native {
namespace {

void write_ids(JsonWriter& json, const std::vector<int32_t>& ids) {
  json.begin_array();
  for (int32_t id : ids) json.value(int64_t{id});
  json.end_array();
}

Expected<PromptBatch> parse_input(const JsonReader& body, const Call& call) {
  const RequestLimits& limits = call.services->options.limits;
  const JsonValue* prompt = body.find("prompt");
  if ((prompt == nullptr) == !body.has("messages")) {
    return invalid_argument("exactly one of prompt and messages must be given");
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto add_special, body.get_bool("add_special_tokens"));
  if (prompt != nullptr) {
    return parse_prompts(*prompt, "prompt", {true, false}, *call.context, limits, add_special.value_or(true));
  }
  BIFOCAL_ASSIGN_OR_RETURN(openai::ChatPrompt chat, openai::build_chat_prompt(body, *call.context, limits));
  PromptBatch batch;
  batch.prompts.push_back({std::move(chat.text), std::move(chat.ids), true});
  return batch;
}

Expected<std::string> tokenize(const JsonReader& body, const Call& call) {
  BIFOCAL_RETURN_IF_ERROR(check_fields(body));
  BIFOCAL_ASSIGN_OR_RETURN(const PromptBatch batch, parse_input(body, call));
  JsonWriter json;
  json.begin_object().key("tokens");
  if (batch.is_batch) json.begin_array();
  for (const Prompt& prompt : batch.prompts) write_ids(json, prompt.ids);
  if (batch.is_batch) json.end_array();
  json.key("count");
  if (batch.is_batch) json.begin_array();
  for (const Prompt& prompt : batch.prompts) json.value(static_cast<int64_t>(prompt.ids.size()));
  if (batch.is_batch) json.end_array();
  json.member("max_model_len", call.context->engine->context_length());
  json.end_object();
  return json.take();
}

Expected<std::string> detokenize(const JsonReader& body, const Call& call) {
  const ServingContext& context = *call.context;
  BIFOCAL_RETURN_IF_ERROR(check_fields(body));
  if (context.tokenizer == nullptr) return invalid_argument("this server runs without a tokenizer");
  BIFOCAL_ASSIGN_OR_RETURN(const auto skip_special, body.get_bool("skip_special_tokens"));
  const bool skip = skip_special.value_or(true);
  const JsonValue* tokens = body.find("tokens");
  if (tokens == nullptr) return invalid_argument("tokens: missing");
  JsonWriter json;
  json.begin_object().key("text");
  const bool is_batch = tokens->is_array() && !tokens->as_array().empty() && tokens->as_array()[0].is_array();
  if (!is_batch) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto ids, parse_token_ids(*tokens, "tokens", context.vocab_size));
    json.value(context.tokenizer->decode(ids, skip));
  } else {
    json.begin_array();
    for (size_t i = 0; i < tokens->as_array().size(); ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(
          const auto ids,
          parse_token_ids(tokens->as_array()[i], "tokens[" + std::to_string(i) + "]", context.vocab_size));
      json.value(context.tokenizer->decode(ids, skip));
    }
    json.end_array();
  }
  json.end_object();
  return json.take();
}

void answer(const Call& call, Expected<std::string> (*make)(const JsonReader&, const Call&)) {
  const auto document = parse_body(call);
  if (!document.ok()) return call.fail(document.status());
  const auto body = JsonReader::open(*document);
  if (!body.ok()) return call.fail(body.status());
  auto json = make(*body, call);
  if (!json.ok()) return call.fail(json.status());
  call.respond_json(std::move(*json));
}

}  // namespace

void handle_tokenize(const Call& call) {
  answer(call, tokenize);
}
void handle_detokenize(const Call& call) {
  answer(call, detokenize);
}

}  // namespace bifocal::server::native
