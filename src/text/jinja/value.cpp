#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "text/unicode.h"

namespace bifocal::text::jinja {
namespace {

// Python compares an integer with a float exactly.
bool equal_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.to_integer() == b.to_integer();
  if (a.is_real() && b.is_real()) return a.as_real() == b.as_real();
  const double real = a.is_real() ? a.as_real() : b.as_real();
  const int64_t integer = a.is_real() ? b.to_integer() : a.to_integer();
  return real >= -9223372036854775808.0 && real < 9223372036854775808.0 && real == std::floor(real) &&
         static_cast<int64_t>(real) == integer;
}

bool equal_mappings(const Mapping& a, const Mapping& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
    const Value* other = b.find(item.first);
    return other != nullptr && equal(item.second, *other);
  });
}

// Python's repr of a string.
void append_quoted(Text& out, const Text& text) {
  const bool has_single = text.bytes().find('\'') != std::string::npos;
  const bool has_double = text.bytes().find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out.append(std::string_view(&quote, 1));
  text.for_each_character([&](uint32_t c, std::string_view bytes, bool from_user) {
    if (c == '\n') {
      out.append("\\n", from_user);
    } else if (c == '\r') {
      out.append("\\r", from_user);
    } else if (c == '\t') {
      out.append("\\t", from_user);
    } else if (c == '\\' || c == static_cast<uint32_t>(quote)) {
      out.append("\\", from_user);
      out.append(bytes, from_user);
    } else if (is_printable(c)) {
      out.append(bytes, from_user);
    } else if (c < 0x100) {
      out.append(fmt::format("\\x{:02x}", c), from_user);
    } else if (c < 0x10000) {
      out.append(fmt::format("\\u{:04x}", c), from_user);
    } else {
      out.append(fmt::format("\\U{:08x}", c), from_user);
    }
  });
  out.append(std::string_view(&quote, 1));
}

class Printer {
 public:
  Printer(Text& out, size_t max_bytes) : out_(out), max_bytes_(max_bytes) {}

  // Recursion is bounded by the depth of values, which is bounded where they are made.
  void print(const Value& value) {
    if (out_.size() > max_bytes_) return;
    switch (value.kind()) {
      case Kind::undefined:
        return out_.append("Undefined");
      case Kind::none:
        return out_.append("None");
      case Kind::boolean:
        return out_.append(value.as_boolean() ? "True" : "False");
      case Kind::integer:
        return out_.append(fmt::format("{}", value.as_integer()));
      case Kind::real:
        return out_.append(real_to_string(value.as_real()));
      case Kind::text:
        return append_quoted(out_, value.as_text());
      case Kind::list:
        return print_list(value.as_list());
      case Kind::mapping:
        return print_mapping(value.as_mapping());
      case Kind::name_space:
        return out_.append("<Namespace>");
      case Kind::loop:
        return out_.append("<LoopContext>");
      case Kind::callable:
        return out_.append(fmt::format("<function {}>", value.as_callable().name));
    }
  }

 private:
  void print_list(const List& list) {
    if (list.kind == ListKind::generator) return out_.append("<generator object>");
    const bool tuple = list.kind == ListKind::tuple;
    out_.append(tuple ? "(" : "[");
    for (size_t i = 0; i < list.items.size() && out_.size() <= max_bytes_; ++i) {
      if (i > 0) out_.append(", ");
      print(list.items[i]);
    }
    out_.append(tuple ? (list.items.size() == 1 ? ",)" : ")") : "]");
  }

  void print_mapping(const Mapping& mapping) {
    out_.append("{");
    bool first = true;
    for (const auto& [key, item] : mapping.items) {
      if (out_.size() > max_bytes_) return;
      if (!first) out_.append(", ");
      first = false;
      print(key);
      out_.append(": ");
      print(item);
    }
    out_.append("}");
  }

  Text& out_;
  size_t max_bytes_;
};

}  // namespace

Value Value::list(std::vector<Value> items, ListKind kind) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return Value(Storage(std::make_shared<const List>(List{std::move(items), kind, depth + 1})));
}

std::shared_ptr<const std::vector<Value>> Value::share_items() const {
  const auto& list = std::get<std::shared_ptr<const List>>(storage_);
  return {list, &list->items};
}

Value Value::mapping(std::vector<std::pair<Value, Value>> items, std::vector<std::string> nulls) {
  int depth = 0;
  for (const auto& [key, item] : items) depth = std::max({depth, key.depth(), item.depth()});
  return Value(
      Storage(std::make_shared<const Mapping>(Mapping{std::move(items), std::move(nulls), depth + 1})));
}

Value Value::callable(Callable v) {
  return Value(Storage(std::make_shared<const Callable>(std::move(v))));
}

Value Value::from_json(const JsonValue& json, bool from_user) {
  if (json.is_null()) return none();
  if (json.is_bool()) return boolean(json.as_bool());
  if (json.is_int()) return integer(json.as_int());
  if (json.is_double()) return real(json.as_double());
  if (json.is_string()) return text(Text(json.as_string(), from_user));
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.as_array().size());
    for (const JsonValue& item : json.as_array()) items.push_back(from_json(item, from_user));
    return list(std::move(items));
  }
  std::vector<std::pair<Value, Value>> items;
  items.reserve(json.as_object().size());
  for (const auto& [name, item] : json.as_object()) {
    items.emplace_back(text(Text(name, from_user)), from_json(item, from_user));
  }
  return mapping(std::move(items));
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return as_boolean();
    case Kind::integer:
      return as_integer() != 0;
    case Kind::real:
      return as_real() != 0.0;
    case Kind::text:
      return !as_text().empty();
    case Kind::list:
      return as_list().kind == ListKind::generator || !as_list().items.empty();
    case Kind::mapping:
      return !as_mapping().items.empty();
    case Kind::name_space:
    case Kind::loop:
    case Kind::callable:
      return true;
  }
  return true;
}

int Value::depth() const {
  switch (kind()) {
    case Kind::list:
      return as_list().depth;
    case Kind::mapping:
      return as_mapping().depth;
    case Kind::callable:
      return as_callable().depth;
    default:
      return 0;
  }
}

std::string_view Value::type_name() const {
  static constexpr std::array<std::string_view, 11> kNames = {"Undefined", "NoneType",    "bool",    "int",
                                                              "float",     "str",         "list",    "dict",
                                                              "Namespace", "LoopContext", "function"};
  if (is_list() && as_list().kind == ListKind::tuple) return "tuple";
  if (is_list() && as_list().kind == ListKind::generator) return "generator";
  return kNames[storage_.index()];
}

const Value* Mapping::find(const Value& key) const {
  for (const auto& [name, item] : items) {
    if (equal(name, key)) return &item;
  }
  return nullptr;
}

const Value* Mapping::find(std::string_view key) const {
  for (const auto& [name, item] : items) {
    if (name.is_text() && name.as_bytes() == key) return &item;
  }
  return nullptr;
}

Value Mapping::missing(std::string_view key, std::string_view name) const {
  return Value::undefined(name, std::find(nulls.begin(), nulls.end(), key) != nulls.end());
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [known, value] : attributes) {
    if (known == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [known, old] : attributes) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(value));
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      return a.as_text() == b.as_text();
    case Kind::list:
      return a.as_list().kind == b.as_list().kind &&
             std::equal(a.as_list().items.begin(), a.as_list().items.end(), b.as_list().items.begin(),
                        b.as_list().items.end(), equal);
    case Kind::mapping:
      return equal_mappings(a.as_mapping(), b.as_mapping());
    case Kind::name_space:
      return &a.as_namespace() == &b.as_namespace();
    case Kind::loop:
      return &a.as_loop() == &b.as_loop();
    case Kind::callable:
      return &a.as_callable() == &b.as_callable();
    default:
      return false;
  }
}

size_t weight(const Value& value, size_t limit) {
  if (value.is_text()) return 1 + value.as_text().size() / 64;
  size_t total = 1;
  if (value.is_list()) {
    for (const Value& item : value.as_list().items) {
      if (total > limit) break;
      total += weight(item, limit);
    }
  } else if (value.is_mapping()) {
    for (const auto& [key, item] : value.as_mapping().items) {
      if (total > limit) break;
      total += weight(key, limit) + weight(item, limit);
    }
  }
  return total;
}

Text to_text(const Value& value, size_t max_bytes) {
  if (value.is_text()) return value.as_text();
  Text out;
  if (!value.is_undefined()) Printer(out, max_bytes).print(value);
  return out;
}

std::string real_to_string(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string out = fmt::format("{}", value);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

}  // namespace bifocal::text::jinja
