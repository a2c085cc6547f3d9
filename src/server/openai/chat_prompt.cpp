#include "server/openai/chat_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "server/prompts.h"

namespace bifocal::server::openai {
namespace {

using Object = JsonValue::Object;
using Array = JsonValue::Array;

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
// What a template already knows by these names may not be replaced from outside.
constexpr std::string_view kReservedKwargs[] = {
    "messages",  "tools",     "documents", "add_generation_prompt", "bos_token",
    "eos_token", "pad_token", "unk_token", "raise_exception",       "strftime_now"};
constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};

template <class Range>
bool contains(const Range& range, std::string_view text) {
  return std::find(std::begin(range), std::end(range), text) != std::end(range);
}

// content: a string, or parts of type "text", which are joined by a space as SGLang does.
Expected<JsonValue> read_content(const JsonReader& message) {
  const JsonValue* content = message.find("content");
  const std::string path = message.path_of("content");
  if (content == nullptr) return JsonValue();
  if (content->is_string()) return *content;
  if (!content->is_array()) return type_error(path, "string or array of parts", *content);
  std::string joined;
  const Array& parts = content->as_array();
  for (size_t i = 0; i < parts.size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonReader part,
                             JsonReader::open(parts[i], fmt::format("{}[{}]", path, i)));
    BIFOCAL_ASSIGN_OR_RETURN(const auto type, part.get_string("type"));
    if (!type) return invalid_argument(part.path_of("type") + ": missing");
    if (*type != "text") return unsupported(part.path_of("type") + ": only \"text\" parts are supported");
    BIFOCAL_ASSIGN_OR_RETURN(const auto text, part.get_string("text"));
    if (!text) return invalid_argument(part.path_of("text") + ": missing");
    if (i > 0) joined += ' ';
    joined += *text;
  }
  return JsonValue(std::move(joined));
}

// Templates expect a call's arguments as an object; clients send them as JSON text.
Expected<JsonValue> read_tool_call(const JsonValue& value, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader call, JsonReader::open(value, path));
  BIFOCAL_ASSIGN_OR_RETURN(const auto function, call.get_object("function"));
  if (!function) return invalid_argument(call.path_of("function") + ": missing");
  BIFOCAL_ASSIGN_OR_RETURN(const auto name, function->get_string("name"));
  if (!name) return invalid_argument(function->path_of("name") + ": missing");
  Object out_function = {{"name", JsonValue(*name)}};
  if (const JsonValue* arguments = function->find("arguments")) {
    if (!arguments->is_string() && !arguments->is_object()) {
      return type_error(function->path_of("arguments"), "string or object", *arguments);
    }
    JsonValue parsed = *arguments;
    if (arguments->is_string()) {
      auto document = parse_json(arguments->as_string());
      if (document.ok() && document->is_object()) parsed = std::move(*document);
    }
    out_function.emplace_back("arguments", std::move(parsed));
  }
  Object out;
  BIFOCAL_ASSIGN_OR_RETURN(const auto id, call.get_string("id"));
  if (id) out.emplace_back("id", JsonValue(*id));
  out.emplace_back("type", JsonValue("function"));
  out.emplace_back("function", JsonValue(std::move(out_function)));
  return JsonValue(std::move(out));
}

Expected<JsonValue> read_message(const JsonValue& value, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader message, JsonReader::open(value, path));
  BIFOCAL_ASSIGN_OR_RETURN(auto role, message.get_string("role"));
  if (!role) return invalid_argument(message.path_of("role") + ": missing");
  if (!contains(kRoles, *role)) {
    return invalid_argument(message.path_of("role") +
                            ": expected system, developer, user, assistant or tool");
  }
  BIFOCAL_ASSIGN_OR_RETURN(JsonValue content, read_content(message));
  BIFOCAL_ASSIGN_OR_RETURN(const Array* calls, message.get_array("tool_calls"));
  if (content.is_null() && (*role != "assistant" || calls == nullptr)) {
    return invalid_argument(message.path_of("content") + ": missing");
  }
  if (content.is_null()) content = JsonValue("");
  const bool assistant = *role == "assistant";
  // Templates know the older name.
  Object out = {{"role", JsonValue(*role == "developer" ? "system" : *role)},
                {"content", std::move(content)}};
  for (const std::string_view name : {"name", "tool_call_id", "reasoning_content"}) {
    BIFOCAL_ASSIGN_OR_RETURN(auto text, message.get_string(name));
    if (text) out.emplace_back(std::string(name), JsonValue(std::move(*text)));
  }
  if (calls != nullptr && assistant) {
    Array out_calls;
    for (size_t i = 0; i < calls->size(); ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(
          JsonValue call,
          read_tool_call((*calls)[i], fmt::format("{}[{}]", message.path_of("tool_calls"), i)));
      out_calls.push_back(std::move(call));
    }
    if (!out_calls.empty()) out.emplace_back("tool_calls", JsonValue(std::move(out_calls)));
  }
  return JsonValue(std::move(out));
}

Expected<Array> read_messages(const JsonReader& body, const RequestLimits& limits) {
  BIFOCAL_ASSIGN_OR_RETURN(const Array* messages, body.get_array("messages"));
  if (messages == nullptr) return invalid_argument("messages: missing");
  if (messages->empty()) return invalid_argument("messages: the array is empty");
  if (messages->size() > limits.max_messages) {
    return invalid_argument(
        fmt::format("messages: {} entries, expected at most {}", messages->size(), limits.max_messages));
  }
  Array out;
  for (size_t i = 0; i < messages->size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(JsonValue message, read_message((*messages)[i], fmt::format("messages[{}]", i)));
    out.push_back(std::move(message));
  }
  return out;
}

bool is_tool_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

// Null unless the template is to show tools.
Expected<JsonValue> read_tools(const JsonReader& body, const RequestLimits& limits) {
  BIFOCAL_ASSIGN_OR_RETURN(const Array* tools, body.get_array("tools"));
  std::string choice = tools == nullptr || tools->empty() ? "none" : "auto";
  if (const JsonValue* value = body.find("tool_choice")) {
    if (!value->is_string() && !value->is_object())
      return type_error("tool_choice", "string or object", *value);
    const bool offered = value->is_string() && (value->as_string() == "auto" || value->as_string() == "none");
    if (!offered) return unsupported("tool_choice: only \"auto\" and \"none\" are supported");
    choice = value->as_string();
  }
  if (tools == nullptr) return JsonValue();
  if (tools->size() > limits.max_tools) {
    return invalid_argument(
        fmt::format("tools: {} entries, expected at most {}", tools->size(), limits.max_tools));
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonReader tool,
                             JsonReader::open((*tools)[i], fmt::format("tools[{}]", i)));
    BIFOCAL_ASSIGN_OR_RETURN(const auto type, tool.get_string("type"));
    if (type.value_or("function") != "function") {
      return unsupported(tool.path_of("type") + ": only \"function\" is supported");
    }
    BIFOCAL_ASSIGN_OR_RETURN(const auto function, tool.get_object("function"));
    if (!function) return invalid_argument(tool.path_of("function") + ": missing");
    BIFOCAL_ASSIGN_OR_RETURN(const auto name, function->get_string("name"));
    if (!name || !is_tool_name(*name)) {
      return invalid_argument(function->path_of("name") + ": expected 1 to 64 letters, digits, '_' and '-'");
    }
    BIFOCAL_RETURN_IF_ERROR(function->get_string("description").status());
    BIFOCAL_RETURN_IF_ERROR(function->get_object("parameters").status());
  }
  if (choice == "none" || tools->empty()) return JsonValue();
  return JsonValue(*tools);
}

void set(Object& object, std::string_view key, JsonValue value) {
  for (auto& [name, existing] : object) {
    if (name == key) {
      existing = std::move(value);
      return;
    }
  }
  object.emplace_back(std::string(key), std::move(value));
}

Expected<Object> read_kwargs(const JsonReader& body) {
  Object out;
  BIFOCAL_ASSIGN_OR_RETURN(const auto effort, body.get_string("reasoning_effort"));
  if (effort) {
    if (!contains(kEfforts, *effort)) {
      return invalid_argument("reasoning_effort: expected none, minimal, low, medium, high or xhigh");
    }
    if (*effort == "none") {
      set(out, "thinking", JsonValue(false));
      set(out, "enable_thinking", JsonValue(false));
    } else {
      set(out, "reasoning_effort", JsonValue(*effort));
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto kwargs, body.get_object("chat_template_kwargs"));
  if (!kwargs) return out;
  for (const auto& [name, value] : kwargs->members()) {
    if (contains(kReservedKwargs, name)) {
      return invalid_argument("chat_template_kwargs: a name that the template already has can't be set");
    }
    if (value.is_array() || value.is_object()) {
      return invalid_argument("chat_template_kwargs: expected strings, numbers, booleans and nulls only");
    }
    set(out, name, value);
  }
  // Two families' names for the same switch.
  const JsonValue* thinking = kwargs->find("thinking");
  const JsonValue* enable_thinking = kwargs->find("enable_thinking");
  if (thinking != nullptr && enable_thinking == nullptr) set(out, "enable_thinking", *thinking);
  if (enable_thinking != nullptr && thinking == nullptr) set(out, "thinking", *enable_thinking);
  return out;
}

bool ends_in_open_reasoning(std::string_view text) {
  constexpr std::string_view kOpen = "<think>";
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text.ends_with(kOpen);
}

}  // namespace

Expected<ChatPrompt> build_chat_prompt(const JsonReader& body, const ServingContext& context,
                                       const RequestLimits& limits) {
  if (context.chat_template == nullptr || context.tokenizer == nullptr) {
    return invalid_argument("messages: this model has no chat template; use /v1/completions");
  }
  BIFOCAL_ASSIGN_OR_RETURN(Array messages, read_messages(body, limits));
  text::ChatInput input;
  BIFOCAL_ASSIGN_OR_RETURN(input.tools, read_tools(body, limits));
  BIFOCAL_ASSIGN_OR_RETURN(input.template_kwargs, read_kwargs(body));
  BIFOCAL_ASSIGN_OR_RETURN(const auto continues, body.get_bool("continue_final_message"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto add_prompt, body.get_bool("add_generation_prompt"));
  input.add_generation_prompt = add_prompt.value_or(true);

  std::string begun;  // what the assistant is to go on from
  if (continues.value_or(false)) {
    const JsonReader last = *JsonReader::open(messages.back());
    if (last.find("role")->as_string() != "assistant") {
      return invalid_argument("continue_final_message: the last message must be the assistant's");
    }
    begun = last.find("content")->as_string();
    messages.pop_back();
    input.add_generation_prompt = true;
    if (messages.empty()) return invalid_argument("messages: nothing comes before the message to continue");
  }
  input.messages = JsonValue(std::move(messages));
  BIFOCAL_ASSIGN_OR_RETURN(text::RenderedChat rendered, context.chat_template->render(input));
  ChatPrompt prompt;
  prompt.in_reasoning = begun.empty() && ends_in_open_reasoning(rendered.text);
  if (!begun.empty()) {
    rendered.user_ranges.push_back({rendered.text.size(), rendered.text.size() + begun.size()});
    rendered.text += begun;
  }
  text::EncodeOptions options;
  options.add_special_tokens = false;  // the template writes them itself
  options.plain_ranges = rendered.user_ranges;
  BIFOCAL_ASSIGN_OR_RETURN(prompt.ids, encode_text(context, limits, rendered.text, "messages", options));
  prompt.text = std::move(rendered.text);
  return prompt;
}

}  // namespace bifocal::server::openai
