#include "text/jinja/runtime.h"

#include <fmt/format.h>

#include <algorithm>

namespace bifocal::text::jinja {

void Runtime::fail(std::string message) const {
  throw TemplateError{position_, std::move(message)};
}

void Runtime::fail_steps() const {
  fail(fmt::format("the template takes more than {} steps", limits_.max_steps));
}

void Runtime::fail_undefined(const Value& value) const {
  const std::string_view name = value.undefined_name();
  fail(name.empty() ? "a value is undefined" : fmt::format("'{}' is undefined", name));
}

void Runtime::check_bytes(size_t bytes) {
  if (bytes > limits_.max_output_bytes)
    fail(fmt::format("a text of more than {} bytes", limits_.max_output_bytes));
  charge_work(bytes);
}

void Runtime::charge_weight(const Value& value) {
  charge(weight(value, static_cast<size_t>(limits_.max_steps)));
}

Value Runtime::text(Text text) {
  check_bytes(text.size());
  return Value::text(std::move(text));
}

Value Runtime::list(std::vector<Value> items, ListKind kind) {
  charge_work(items.size());
  Value value = Value::list(std::move(items), kind);
  if (value.depth() > limits_.max_depth)
    fail(fmt::format("lists nested deeper than {} levels", limits_.max_depth));
  return value;
}

Value Runtime::mapping(std::vector<std::pair<Value, Value>> items) {
  charge_work(items.size());
  Value value = Value::mapping(std::move(items));
  if (value.depth() > limits_.max_depth)
    fail(fmt::format("mappings nested deeper than {} levels", limits_.max_depth));
  return value;
}

Text Runtime::print(const Value& value) {
  if (value.is_text()) {
    check_bytes(value.as_text().size());
    return value.as_text();
  }
  charge_weight(value);
  Text out = to_text(value, limits_.max_output_bytes);
  check_bytes(out.size());
  return out;
}

BoundArguments::BoundArguments(const Runtime& runtime, const Arguments& arguments, std::string_view function,
                               std::initializer_list<std::string_view> parameters)
    : runtime_(runtime), function_(function), values_(parameters.size()) {
  if (arguments.positional.size() > parameters.size()) {
    runtime.fail(fmt::format("{}() takes at most {} arguments, got {}", function, parameters.size(),
                             arguments.positional.size()));
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), values_.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto* found = std::find(parameters.begin(), parameters.end(), name);
    if (found == parameters.end()) runtime.fail(fmt::format("{}() has no parameter '{}'", function, name));
    const auto index = static_cast<size_t>(found - parameters.begin());
    if (index < arguments.positional.size()) runtime.fail(fmt::format("{}() got '{}' twice", function, name));
    values_[index] = value;
  }
}

int64_t BoundArguments::integer(size_t i, int64_t absent) const {
  if (!given(i)) return absent;
  if (!values_[i].is_integral()) {
    runtime_.fail(fmt::format("{}() expected an integer, got {}", function_, values_[i].type_name()));
  }
  return values_[i].to_integer();
}

}  // namespace bifocal::text::jinja
