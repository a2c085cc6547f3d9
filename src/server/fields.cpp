#include "server/fields.h"

#include <algorithm>
#include <iterator>

namespace bifocal::server {
namespace {

constexpr std::string_view kNoGrammar = "constrained output is not supported";
constexpr std::string_view kTextOnly = "only text is supported";

constexpr FieldRule kUnsupported[] = {
    {"json_schema", kNoGrammar},
    {"regex", kNoGrammar},
    {"ebnf", kNoGrammar},
    {"structural_tag", kNoGrammar},
    {"guided_json", kNoGrammar},
    {"guided_regex", kNoGrammar},
    {"guided_choice", kNoGrammar},
    {"guided_grammar", kNoGrammar},
    {"structured_outputs", kNoGrammar},
    {"stop_regex", "use stop"},
    {"functions", "use tools"},
    {"function_call", "use tools and tool_choice"},
    {"suffix", "text can't be inserted before a suffix"},
    {"input_embeds", "use text or input_ids"},
    {"image_data", kTextOnly},
    {"video_data", kTextOnly},
    {"audio_data", kTextOnly},
    {"audio", kTextOnly},
    {"prediction", "predicted output is not supported"},
    {"web_search_options", "web search is not supported"},
    {"lora_path", "adapters are not supported"},
    {"session_params", "sessions are not supported"},
    {"custom_logit_processor", "use logit_bias"},
    {"custom_params", "use the documented sampling parameters"},
    {"token_ids_logprob", "use top_logprobs_num"},
    {"return_hidden_states", "hidden states are not returned"},
    {"return_token_ids", "use /generate, which always returns output_ids"},
    {"return_cached_tokens_details", "all cached tokens are of one kind; --enable-cache-report counts them"},
    {"priority", "requests are served in the order in which they come"},
    {"return_routed_experts", "routed experts are not returned"},
    {"use_beam_search", "beam search is not supported"},
    {"bootstrap_host", "disaggregated serving is not supported"},
    {"bootstrap_port", "disaggregated serving is not supported"},
    {"bootstrap_room", "disaggregated serving is not supported"},
};

constexpr IdleField kIdle[] = {
    {"user", FieldType::string},
    {"safety_identifier", FieldType::string},
    {"prompt_cache_key", FieldType::string},  // prefixes are found by their tokens
    {"service_tier", FieldType::string},
    {"verbosity", FieldType::string},
    {"metadata", FieldType::object},
    {"store", FieldType::boolean},
    {"no_logs", FieldType::boolean},  // content is never logged
    {"log_metrics", FieldType::boolean},
    {"parallel_tool_calls", FieldType::boolean},
    {"spaces_between_special_tokens", FieldType::boolean},  // byte-level tokenizers put none there
};

constexpr std::string_view kInternal[] = {
    "attention_backend",
    "prefill_attention_backend",
    "decode_attention_backend",
    "grammar_backend",
    "sampling_backend",
    "guided_decoding_backend",
    "chat_template",
    "page_size",
    "kv_cache_dtype",
    "chunked_prefill_size",
    "mem_fraction_static",
    "model_path",
    "tokenizer_path",
};

Status check_type(const JsonReader& body, const IdleField& field) {
  switch (field.type) {
    case FieldType::boolean:
      return body.get_bool(field.name).status();
    case FieldType::string:
      return body.get_string(field.name).status();
    case FieldType::object:
      return body.get_object(field.name).status();
  }
  return {};
}

}  // namespace

std::span<const FieldRule> unsupported_fields() {
  return kUnsupported;
}
std::span<const IdleField> idle_fields() {
  return kIdle;
}
std::span<const std::string_view> internal_fields() {
  return kInternal;
}

bool is_given(const JsonValue* value) {
  if (value == nullptr || value->is_null()) return false;
  if (value->is_bool()) return value->as_bool();
  if (value->is_int()) return value->as_int() != 0;
  if (value->is_string()) return !value->as_string().empty();
  if (value->is_array()) return !value->as_array().empty();
  if (value->is_object()) return !value->as_object().empty();
  return true;
}

Status check_fields(const JsonReader& body) {
  for (const IdleField& field : kIdle) BIFOCAL_RETURN_IF_ERROR(check_type(body, field));
  for (const auto& member : body.members()) {
    const std::string& name = member.first;
    const JsonValue& value = member.second;
    if (value.is_null()) continue;
    if (std::find(std::begin(kInternal), std::end(kInternal), name) != std::end(kInternal)) {
      return invalid_argument(body.path_of(name) + ": this is the server's own setting, not a request's");
    }
    // Named without the client's bytes.
    if ((name.starts_with("cache_") && name != "cache_salt") || name.ends_with("_backend")) {
      return invalid_argument("a field cache_* or *_backend is the server's own setting, not a request's");
    }
    const auto* rule = std::find_if(std::begin(kUnsupported), std::end(kUnsupported),
                                    [&](const FieldRule& r) { return r.name == name; });
    if (rule != std::end(kUnsupported) && is_given(&value)) {
      return unsupported(body.path_of(name) + ": " + std::string(rule->instead));
    }
  }
  return {};
}

}  // namespace bifocal::server
