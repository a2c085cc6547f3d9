#include "text/jinja/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja/operators.h"
#include "text/jinja/text_methods.h"

namespace bifocal::text::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, const Arguments&);
struct MethodEntry {
  std::string_view name;
  Method method;  // nullptr: would change the object
};

Value mapping_items(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "items", {});
  return items_of(runtime, self);
}

Value mapping_keys(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "keys", {});
  return runtime.list(*iterate(runtime, self));
}

Value mapping_values(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "values", {});
  std::vector<Value> out;
  for (const auto& [key, item] : self.as_mapping().items) out.push_back(item);
  runtime.charge(out.size());
  return runtime.list(std::move(out));
}

Value mapping_get(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "get", {"key", "default"});
  runtime.charge(self.as_mapping().items.size());
  if (const Value* found = self.as_mapping().find(arguments[0])) return *found;
  return arguments.has(1) ? arguments[1] : Value::none();
}

Value copy(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "copy", {});
  return self;
}

Value list_index(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "index", {"value"});
  const auto& items = self.as_list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    runtime.charge(1);
    if (equal_charged(runtime, items[i], arguments[0])) return Value::integer(static_cast<int64_t>(i));
  }
  runtime.fail("index(): the value is not in the list");
}

Value list_count(Runtime& runtime, const Value& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "count", {"value"});
  int64_t count = 0;
  for (const Value& item : self.as_list().items) {
    runtime.charge(1);
    if (equal_charged(runtime, item, arguments[0])) ++count;
  }
  return Value::integer(count);
}

constexpr std::array<MethodEntry, 11> kMappingMethods = {{
    {"items", mapping_items},
    {"keys", mapping_keys},
    {"values", mapping_values},
    {"get", mapping_get},
    {"copy", copy},
    {"clear", nullptr},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
    {"fromkeys", nullptr},
}};

constexpr std::array<MethodEntry, 3> kListMethods = {
    {{"index", list_index}, {"count", list_count}, {"copy", copy}}};

template <class Table>
const MethodEntry* find_in(const Table& table, std::string_view name) {
  const auto* found =
      std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.name == name; });
  return found == table.end() ? nullptr : found;
}

Value loop_cycle(Runtime& runtime, const Loop& loop, const Arguments& arguments) {
  if (arguments.positional.empty()) runtime.fail("cycle() without values");
  return arguments.positional[loop.index % arguments.positional.size()];
}

Value loop_changed(Runtime& runtime, Loop& loop, const Arguments& arguments) {
  Value now = runtime.list(arguments.positional, ListKind::tuple);
  const bool same = loop.has_changed && equal_charged(runtime, loop.last_changed, now);
  loop.last_changed = std::move(now);
  loop.has_changed = true;
  return Value::boolean(!same);
}

}  // namespace

bool is_text_method(std::string_view name) {
  return find_text_method(name) != nullptr;
}
bool is_mapping_method(std::string_view name) {
  return find_in(kMappingMethods, name) != nullptr;
}
bool is_list_method(std::string_view name) {
  return find_in(kListMethods, name) != nullptr;
}

Value bound_method(const Value& object, std::string_view name) {
  if (object.is_text()) {
    const TextMethodEntry* entry = find_text_method(name);
    return Value::callable({std::string(entry->name),
                            [object, method = entry->method](Runtime& runtime, const Arguments& arguments) {
                              return method(runtime, object.as_text(), arguments);
                            },
                            object.depth() + 1});
  }
  const MethodEntry* entry =
      object.is_mapping() ? find_in(kMappingMethods, name) : find_in(kListMethods, name);
  if (entry->method == nullptr) return Value::undefined(entry->name);
  return Value::callable({std::string(entry->name),
                          [object, method = entry->method](Runtime& runtime, const Arguments& arguments) {
                            return method(runtime, object, arguments);
                          },
                          object.depth() + 1});
}

Value loop_attribute(Runtime& runtime, Loop& loop, std::string_view name) {
  const auto& items = *loop.items;
  const auto index = static_cast<int64_t>(loop.index);
  const auto size = static_cast<int64_t>(items.size());
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(size - index);
  if (name == "revindex0") return Value::integer(size - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index + 1 == size);
  if (name == "length") return Value::integer(size);
  // Loops are not recursive.
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") return index == 0 ? Value::undefined("loop.previtem") : items[loop.index - 1];
  if (name == "nextitem")
    return index + 1 >= size ? Value::undefined("loop.nextitem") : items[loop.index + 1];
  // Loops live as long as the render.
  if (name == "cycle") {
    return Value::callable({"cycle", [&loop](Runtime& r, const Arguments& arguments) {
                              return loop_cycle(r, loop, arguments);
                            }});
  }
  if (name == "changed") {
    return Value::callable({"changed", [&loop](Runtime& r, const Arguments& arguments) {
                              return loop_changed(r, loop, arguments);
                            }});
  }
  runtime.charge(1);
  return {};
}

}  // namespace bifocal::text::jinja
