#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/file.h"
#include "base/utf8.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"

namespace bifocal::text {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{32} << 20;
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

// What a render sets itself, and the functions of templates: arguments of a request must not stand in for
// them.
constexpr std::array<std::string_view, 11> kReserved = {
    "messages",  "tools",           "documents", "add_generation_prompt", "range", "dict",
    "namespace", "raise_exception", "loop",      "strftime_now",          "caller"};

constexpr std::array<std::string_view, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

Status to_status(const jinja::TemplateError& error) {
  if (error.raised_by_template) return invalid_argument(error.message);
  return invalid_argument(fmt::format("chat template, line {}, column {}: {}", error.position.line,
                                      error.position.column, error.message));
}

Expected<jinja::Body> compile_body(std::string_view source, const TemplateLimits& limits) {
  if (source.size() > kMaxTemplateBytes) {
    return invalid_argument(
        fmt::format("the chat template has {} bytes, expected at most {}", source.size(), kMaxTemplateBytes));
  }
  if (!is_valid_utf8(source)) return invalid_argument("the chat template is not valid UTF-8");
  try {
    return jinja::parse(source, limits.max_depth);
  } catch (const jinja::TemplateError& error) {
    return to_status(error);
  }
}

// Some templates make special tokens of roles ('<|' + message.role + '|>'), so these count as the template's
// own words.
constexpr std::array<std::string_view, 6> kRoles = {"system", "user",      "assistant",
                                                    "tool",   "developer", "function"};

bool is_known_role(std::string_view name, const JsonValue& value) {
  return name == "role" && value.is_string() &&
         std::find(kRoles.begin(), kRoles.end(), value.as_string()) != kRoles.end();
}

// A message as transformers 5 shows it to templates: members that are null are left out (though `is none`
// still holds for them, on which DeepSeek-V3's template relies), and reasoning is found under both names that
// templates read.
jinja::Value message_value(const JsonValue& message) {
  if (!message.is_object()) return jinja::Value::from_json(message, true);
  std::vector<std::pair<jinja::Value, jinja::Value>> items;
  std::vector<std::string> nulls;
  const JsonValue* reasoning = nullptr;
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    const JsonValue* found = message.find(name);
    if (reasoning == nullptr && found != nullptr && !found->is_null()) reasoning = found;
  }
  const auto add = [&](std::string_view name, const JsonValue& value, bool from_user) {
    items.emplace_back(jinja::Value::text(jinja::Text(std::string(name), from_user)),
                       jinja::Value::from_json(value, !is_known_role(name, value)));
  };
  const auto given = [&](std::string_view name) {
    const JsonValue* found = message.find(name);
    return found != nullptr && !found->is_null();
  };
  if (reasoning != nullptr && !given("thinking")) add("thinking", *reasoning, false);
  for (const auto& [name, value] : message.as_object()) {
    if (value.is_null()) {
      nulls.push_back(name);
    } else {
      add(name, value, true);
    }
  }
  if (reasoning != nullptr && !given("reasoning_content")) add("reasoning_content", *reasoning, false);
  return jinja::Value::mapping(std::move(items), std::move(nulls));
}

jinja::Value messages_value(const JsonValue& messages) {
  if (!messages.is_array()) return jinja::Value::from_json(messages, true);
  std::vector<jinja::Value> items;
  for (const JsonValue& message : messages.as_array()) items.push_back(message_value(message));
  return jinja::Value::list(std::move(items));
}

class JinjaChatTemplate : public ChatTemplate {
 public:
  JinjaChatTemplate(jinja::Body body, JsonValue::Object variables, const TemplateLimits& limits)
      : body_(std::move(body)), variables_(std::move(variables)), limits_(limits) {}

  Expected<RenderedChat> render(const ChatInput& input) const override {
    for (const auto& [name, value] : input.template_kwargs) {
      if (is_reserved(name))
        return invalid_argument(fmt::format("chat_template_kwargs.{}: this name is taken", name));
    }
    try {
      jinja::Evaluator evaluator(limits_);
      for (const auto& [name, value] : variables_)
        evaluator.set_variable(name, jinja::Value::from_json(value, false));
      for (const auto& [name, value] : input.template_kwargs)
        evaluator.set_variable(name, jinja::Value::from_json(value, true));
      evaluator.set_variable("messages", messages_value(input.messages));
      evaluator.set_variable("tools", jinja::Value::from_json(input.tools, true));
      evaluator.set_variable("documents", jinja::Value::none());
      evaluator.set_variable("add_generation_prompt", jinja::Value::boolean(input.add_generation_prompt));
      const jinja::Text text = evaluator.render(body_);
      return RenderedChat{text.bytes(), text.user_ranges()};
    } catch (const jinja::TemplateError& error) {
      return to_status(error);
    }
  }

 private:
  bool is_reserved(std::string_view name) const {
    for (const std::string_view reserved : kReserved) {
      if (name == reserved) return true;
    }
    for (const auto& [variable, value] : variables_) {
      if (name == variable) return true;
    }
    return false;
  }

  jinja::Body body_;
  JsonValue::Object variables_;
  TemplateLimits limits_;
};

// One template for chats with tools, one for those without.
class TemplatePair : public ChatTemplate {
 public:
  TemplatePair(std::unique_ptr<ChatTemplate> plain, std::unique_ptr<ChatTemplate> with_tools)
      : plain_(std::move(plain)), with_tools_(std::move(with_tools)) {}

  Expected<RenderedChat> render(const ChatInput& input) const override {
    return (input.tools.is_null() ? plain_ : with_tools_)->render(input);
  }

 private:
  std::unique_ptr<ChatTemplate> plain_;
  std::unique_ptr<ChatTemplate> with_tools_;
};

// A special token is a string or {"content": ...}.
JsonValue::Object special_tokens(const JsonValue& config) {
  JsonValue::Object out;
  for (const std::string_view name : kSpecialTokens) {
    const JsonValue* token = config.find(name);
    if (token != nullptr && token->is_object()) token = token->find("content");
    if (token != nullptr && token->is_string()) out.emplace_back(std::string(name), *token);
  }
  return out;
}

// [{"name": "default", "template": ...}, {"name": "tool_use", ...}]
Expected<std::unique_ptr<ChatTemplate>> compile_named(const JsonValue::Array& entries,
                                                      const JsonValue::Object& variables) {
  std::unique_ptr<ChatTemplate> plain;
  std::unique_ptr<ChatTemplate> with_tools;
  for (const JsonValue& entry : entries) {
    const JsonValue* name = entry.find("name");
    const JsonValue* source = entry.find("template");
    if (name == nullptr || source == nullptr || !name->is_string() || !source->is_string()) {
      return invalid_argument("chat_template: expected entries with a name and a template");
    }
    const bool is_plain = name->as_string() == "default";
    if (!is_plain && name->as_string() != "tool_use") continue;
    auto compiled = ChatTemplate::compile(source->as_string(), variables);
    if (!compiled)
      return compiled.status().with_context(fmt::format("chat_template \"{}\"", name->as_string()));
    (is_plain ? plain : with_tools) = std::move(*compiled);
  }
  if (plain == nullptr) return invalid_argument("chat_template: none of the templates is named default");
  if (with_tools == nullptr) return plain;
  return std::unique_ptr<ChatTemplate>(
      std::make_unique<TemplatePair>(std::move(plain), std::move(with_tools)));
}

}  // namespace

Expected<std::unique_ptr<ChatTemplate>> ChatTemplate::compile(std::string_view source,
                                                              JsonValue::Object variables,
                                                              const TemplateLimits& limits) {
  BIFOCAL_ASSIGN_OR_RETURN(jinja::Body body, compile_body(source, limits));
  return std::unique_ptr<ChatTemplate>(
      std::make_unique<JinjaChatTemplate>(std::move(body), std::move(variables), limits));
}

Expected<std::unique_ptr<ChatTemplate>> ChatTemplate::load(const std::string& directory) {
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string template_path = directory + "/chat_template.jinja";
  JsonValue config;
  if (file_exists(config_path)) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(config_path, kMaxConfigBytes));
    auto parsed = parse_json(text, {.max_bytes = kMaxConfigBytes});
    if (!parsed) return parsed.status().with_context(config_path);
    config = std::move(*parsed);
  }
  const JsonValue::Object variables = special_tokens(config);
  if (file_exists(template_path)) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string source, read_file(template_path, kMaxTemplateBytes));
    auto compiled = compile(source, variables);
    if (!compiled) return compiled.status().with_context(template_path);
    return compiled;
  }
  const JsonValue* found = config.find("chat_template");
  if (found == nullptr || found->is_null())
    return not_found(fmt::format("{}: the model has no chat template", directory));
  if (!found->is_string() && !found->is_array())
    return type_error(config_path + ": chat_template", "string or array", *found);
  auto compiled = found->is_string() ? compile(found->as_string(), variables)
                                     : compile_named(found->as_array(), variables);
  if (!compiled) return compiled.status().with_context(config_path);
  return compiled;
}

}  // namespace bifocal::text
