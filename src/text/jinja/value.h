// The values of templates. Lists and mappings never change once made (as in Jinja's immutable sandbox), so
// values share them and cannot form cycles; what can change (namespaces, loops) is owned by the render and
// only referred to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/jinja/text.h"

namespace bifocal::text::jinja {

class Value;
class Runtime;
struct Arguments;
struct List;
struct Mapping;
struct Callable;
struct Namespace;
struct Loop;

// A name that has no value. Printing it gives nothing, using it is an error that says the name.
struct Undefined {
  std::string_view name;  // of an expression of the template, which outlives the value
  bool null = false;      // the input had a null in this place: `is none` holds as well
};
struct None {};

// generator: what Jinja's lazy filters give; it has no length and is true even when empty.
enum class ListKind { list, tuple, generator };

enum class Kind { undefined, none, boolean, integer, real, text, list, mapping, name_space, loop, callable };

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string_view name, bool null = false) {
    return Value(Storage(Undefined{name, null}));
  }
  static Value none() { return Value(Storage(None{})); }
  static Value boolean(bool v) { return Value(Storage(v)); }
  static Value integer(int64_t v) { return Value(Storage(v)); }
  static Value real(double v) { return Value(Storage(v)); }
  static Value text(Text v) { return Value(Storage(std::make_shared<const Text>(std::move(v)))); }
  static Value text(std::string_view v) { return text(Text(std::string(v))); }
  static Value list(std::vector<Value> items, ListKind kind = ListKind::list);
  // nulls: keys that are absent because their value was null.
  static Value mapping(std::vector<std::pair<Value, Value>> items, std::vector<std::string> nulls = {});
  static Value name_space(Namespace* v) { return Value(Storage(v)); }
  static Value loop(Loop* v) { return Value(Storage(v)); }
  static Value callable(Callable v);
  // Strings within are the user's or not. Depth is bounded by the parser of the JSON.
  static Value from_json(const JsonValue& json, bool from_user);

  Kind kind() const { return static_cast<Kind>(storage_.index()); }
  bool is_undefined() const { return kind() == Kind::undefined; }
  bool is_none() const { return kind() == Kind::none; }
  bool is_boolean() const { return kind() == Kind::boolean; }
  bool is_integer() const { return kind() == Kind::integer; }
  bool is_real() const { return kind() == Kind::real; }
  bool is_number() const {
    return is_boolean() || is_integer() || is_real();
  }  // as in Python, where bool is a number
  bool is_text() const { return kind() == Kind::text; }
  bool is_list() const { return kind() == Kind::list; }
  bool is_mapping() const { return kind() == Kind::mapping; }
  bool is_callable() const { return kind() == Kind::callable; }

  // Each requires the matching kind.
  std::string_view undefined_name() const { return std::get<Undefined>(storage_).name; }
  bool undefined_null() const { return std::get<Undefined>(storage_).null; }
  bool as_boolean() const { return std::get<bool>(storage_); }
  int64_t as_integer() const { return std::get<int64_t>(storage_); }  // not for booleans: see to_integer
  double as_real() const { return std::get<double>(storage_); }
  const Text& as_text() const { return *std::get<std::shared_ptr<const Text>>(storage_); }
  const std::string& as_bytes() const { return as_text().bytes(); }
  const List& as_list() const { return *std::get<std::shared_ptr<const List>>(storage_); }
  std::shared_ptr<const std::vector<Value>> share_items() const;  // of a list
  const Mapping& as_mapping() const { return *std::get<std::shared_ptr<const Mapping>>(storage_); }
  Namespace& as_namespace() const { return *std::get<Namespace*>(storage_); }
  Loop& as_loop() const { return *std::get<Loop*>(storage_); }
  const Callable& as_callable() const { return *std::get<std::shared_ptr<const Callable>>(storage_); }

  int64_t to_integer() const { return is_boolean() ? (as_boolean() ? 1 : 0) : as_integer(); }
  double to_real() const { return is_real() ? as_real() : static_cast<double>(to_integer()); }
  bool is_integral() const { return is_boolean() || is_integer(); }

  bool truthy() const;
  // Nesting of lists, mappings and bound methods: 0 for scalars.
  int depth() const;
  std::string_view type_name() const;  // as Python's: "str", "NoneType", ...

 private:
  // In the order of Kind.
  using Storage = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>,
                               std::shared_ptr<const List>, std::shared_ptr<const Mapping>, Namespace*, Loop*,
                               std::shared_ptr<const Callable>>;
  explicit Value(Storage storage) : storage_(std::move(storage)) {}
  Storage storage_;
};

struct List {
  std::vector<Value> items;
  ListKind kind;
  int depth;
};

// In insertion order; keys are unique.
struct Mapping {
  std::vector<std::pair<Value, Value>> items;
  std::vector<std::string> nulls;
  int depth;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  // What a missing key gives.
  Value missing(std::string_view key, std::string_view name) const;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// What `loop` refers to.
struct Loop {
  std::shared_ptr<const std::vector<Value>> items;
  size_t index = 0;
  Value last_changed;  // of loop.changed()
  bool has_changed = false;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

struct Callable {
  std::string name;
  std::function<Value(Runtime&, const Arguments&)> call;
  int depth = 0;  // of what the function holds
};

// Python's ==: numbers by value, never an error.
bool equal(const Value& a, const Value& b);

// What an operation on all of value touches: items and bytes / 64. A value may hold another many times over,
// so counting stops soon after `limit`.
size_t weight(const Value& value, size_t limit);

// What printing a value gives: str() for text, repr() within lists. Stops soon after max_bytes.
Text to_text(const Value& value, size_t max_bytes = SIZE_MAX);
std::string real_to_string(double value);  // as Python prints floats

}  // namespace bifocal::text::jinja
