#include "text/json_access.h"

#include <fmt/format.h>

namespace bifocal::text {

Expected<std::string> component_type(const JsonReader& component, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto type, component.get_string("type", 64));
  if (!type) return invalid_argument(fmt::format("{}.type: missing", path));
  return *type;
}

Expected<Regex> read_pattern(const JsonReader& component, std::string_view key) {
  const std::string path = component.path_of(key);
  const JsonValue* pattern = component.find(key);
  if (pattern == nullptr) return invalid_argument(path + ": missing");
  const JsonValue* regex = pattern->find("Regex");
  const JsonValue* text = pattern->is_string() ? pattern : pattern->find("String");
  const JsonValue* given = regex != nullptr ? regex : text;
  if (given == nullptr || !given->is_string()) {
    return invalid_argument(path + ": expected a string, {\"String\": ...} or {\"Regex\": ...}");
  }
  Expected<Regex> compiled =
      regex != nullptr ? Regex::compile(given->as_string()) : Regex::literal(given->as_string());
  if (!compiled) return compiled.status().with_context(path);
  return compiled;
}

Expected<bool> read_bool(const JsonReader& component, std::string_view key, bool absent) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, component.get_bool(key));
  return value.value_or(absent);
}

Expected<std::string> read_string(const JsonReader& component, std::string_view key) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, component.get_string(key));
  if (!value) return invalid_argument(component.path_of(key) + ": missing");
  return *value;
}

}  // namespace bifocal::text
