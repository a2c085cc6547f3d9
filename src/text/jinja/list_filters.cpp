// Filters on lists and mappings.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/filter_support.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/tests.h"

namespace bifocal::text::jinja {
namespace {

const std::string kDot = ".";

// The value at a path: "function.name" or an index.
Value resolve_path(Runtime& runtime, const Value& value, const Value& path) {
  if (!path.is_text()) return get_item(runtime, value, path);
  Value at = value;
  for (const Text& part : split(path.as_text(), &kDot, -1)) {
    const bool index = !part.empty() && part.bytes().find_first_not_of("0123456789") == std::string::npos &&
                       part.size() < 10;
    at = get_item(runtime, at, index ? Value::integer(std::stoll(part.bytes())) : Value::text(part));
  }
  return at;
}

Value list_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "list", {});
  const auto items = iterate(runtime, input);
  runtime.charge(items->size());
  return runtime.list(*items);
}

Value items_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "items", {});
  return runtime.list(*iterate(runtime, items_of(runtime, input)), ListKind::generator);
}

Value first_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "first", {});
  const auto items = iterate(runtime, input);
  return items->empty() ? Value() : items->front();
}

Value last_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "last", {});
  const auto items = iterate(runtime, input);
  return items->empty() ? Value() : items->back();
}

Value join_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "join", {"d", "attribute"});
  const Text separator = arguments.has(0) ? runtime.print(arguments[0]) : Text();
  Text out;
  bool first = true;
  const auto items = iterate(runtime, input);
  for (const Value& item : *items) {
    if (!first) out.append(separator);
    first = false;
    out.append(runtime.print(arguments.given(1) ? resolve_path(runtime, item, arguments[1]) : item));
    runtime.charge_work(separator.size());
    if (out.size() > runtime.limits().max_output_bytes) runtime.check_bytes(out.size());
  }
  return runtime.text(std::move(out));
}

Value reverse_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "reverse", {});
  if (input.is_text()) return get_slice(runtime, input, Value(), Value(), Value::integer(-1));
  const auto items = iterate(runtime, input);
  runtime.charge(items->size());
  return runtime.list({items->rbegin(), items->rend()}, ListKind::generator);
}

// Texts compare without case unless told otherwise.
Value sort_key(Runtime& runtime, const Value& item, const Value& attribute, bool case_sensitive) {
  Value key = attribute.is_undefined() || attribute.is_none() ? item : resolve_path(runtime, item, attribute);
  if (case_sensitive || !key.is_text()) return key;
  runtime.charge_work(key.as_text().size() * 4);
  return runtime.text(lower(key.as_text()));
}

Value sort_items(Runtime& runtime, const std::vector<Value>& items, const std::vector<Value>& keys,
                 bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // Python keeps the order of equal items also when it sorts downwards.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    runtime.charge(1);
    if (equal_charged(runtime, keys[a], keys[b])) return false;
    return reverse ? less(runtime, keys[b], keys[a]) : less(runtime, keys[a], keys[b]);
  });
  std::vector<Value> out;
  out.reserve(items.size());
  for (const size_t i : order) out.push_back(items[i]);
  return runtime.list(std::move(out));
}

Value sort_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "sort", {"reverse", "case_sensitive", "attribute"});
  const auto items = iterate(runtime, input);
  std::vector<Value> keys;
  for (const Value& item : *items)
    keys.push_back(sort_key(runtime, item, arguments[2], arguments.truthy(1, false)));
  runtime.charge(keys.size());
  return sort_items(runtime, *items, keys, arguments.truthy(0, false));
}

Value dictsort_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "dictsort", {"case_sensitive", "by", "reverse"});
  runtime.require_defined(input);
  const Value items = items_of(runtime, input);
  const bool by_value = arguments.has(1) && equal(arguments[1], Value::text("value"));
  std::vector<Value> keys;
  for (const Value& item : items.as_list().items) {
    keys.push_back(
        sort_key(runtime, item.as_list().items[by_value ? 1 : 0], Value(), arguments.truthy(0, false)));
  }
  return sort_items(runtime, items.as_list().items, keys, arguments.truthy(2, false));
}

Value unique_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "unique", {"case_sensitive", "attribute"});
  std::vector<Value> keys;
  std::vector<Value> out;
  const auto items = iterate(runtime, input);
  for (const Value& item : *items) {
    Value key = sort_key(runtime, item, arguments[1], arguments.truthy(0, false));
    const bool seen = std::any_of(keys.begin(), keys.end(), [&](const Value& k) {
      runtime.charge(1);
      return equal_charged(runtime, k, key);
    });
    if (seen) continue;
    keys.push_back(std::move(key));
    out.push_back(item);
  }
  return runtime.list(std::move(out), ListKind::generator);
}

template <bool largest>
Value extreme_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, largest ? "max" : "min", {"case_sensitive", "attribute"});
  const auto items = iterate(runtime, input);
  Value best;
  Value best_key;
  for (size_t i = 0; i < items->size(); ++i) {
    Value key = sort_key(runtime, (*items)[i], arguments[1], arguments.truthy(0, false));
    runtime.charge(1);
    if (i > 0 && !(largest ? less(runtime, best_key, key) : less(runtime, key, best_key))) continue;
    best = (*items)[i];
    best_key = std::move(key);
  }
  return best;
}

Value sum_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "sum", {"attribute", "start"});
  Value total = arguments.has(1) ? arguments[1] : Value::integer(0);
  const auto items = iterate(runtime, input);
  for (const Value& item : *items) {
    runtime.charge(1);
    total = arithmetic(runtime, ArithmeticOperator::add, total,
                       arguments.given(0) ? resolve_path(runtime, item, arguments[0]) : item);
  }
  return total;
}

// map(attribute="a.b", default=x) or map("filter", arguments...)
Value map_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const auto items = iterate(runtime, input);
  std::vector<Value> out;
  out.reserve(items->size());
  if (given.positional.empty()) {
    const BoundArguments arguments(runtime, given, "map", {"attribute", "default"});
    for (const Value& item : *items) {
      runtime.charge(1);
      Value value = resolve_path(runtime, item, arguments[0]);
      out.push_back(value.is_undefined() && arguments.has(1) ? arguments[1] : value);
    }
    return runtime.list(std::move(out), ListKind::generator);
  }
  const std::string name = runtime.print(given.positional[0]).bytes();
  const FilterFunction filter = find_filter(name);
  if (filter == nullptr) runtime.fail(fmt::format("map(): no filter is named '{}'", name.substr(0, 40)));
  const Arguments rest{{given.positional.begin() + 1, given.positional.end()}, given.named};
  for (const Value& item : *items) {
    runtime.charge(1);
    out.push_back(filter(runtime, item, rest));
  }
  return runtime.list(std::move(out), ListKind::generator);
}

// select, reject: (test, arguments...); selectattr, rejectattr: (path, test, arguments...). Without a test:
// truth.
template <bool wanted, bool by_attribute>
Value choose_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const size_t at = by_attribute ? 1 : 0;
  if (given.positional.size() < at)
    runtime.fail("selectattr() and rejectattr() need the name of an attribute");
  TestFunction test = nullptr;
  Arguments rest;
  rest.named = given.named;
  if (given.positional.size() > at) {
    const std::string name = runtime.print(given.positional[at]).bytes();
    test = find_test(name);
    if (test == nullptr) runtime.fail(fmt::format("select(): no test is named '{}'", name.substr(0, 40)));
    rest.positional.assign(given.positional.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                           given.positional.end());
  }
  std::vector<Value> out;
  const auto items = iterate(runtime, input);
  for (const Value& item : *items) {
    runtime.charge(1);
    const Value value = by_attribute ? resolve_path(runtime, item, given.positional[0]) : item;
    if ((test == nullptr ? value.truthy() : test(runtime, value, rest)) == wanted) out.push_back(item);
  }
  return runtime.list(std::move(out), ListKind::generator);
}

constexpr std::array<FilterEntry, 17> kFilters = {{
    {"list", list_filter},
    {"items", items_filter},
    {"first", first_filter},
    {"last", last_filter},
    {"join", join_filter},
    {"reverse", reverse_filter},
    {"sort", sort_filter},
    {"dictsort", dictsort_filter},
    {"unique", unique_filter},
    {"min", extreme_filter<false>},
    {"max", extreme_filter<true>},
    {"sum", sum_filter},
    {"map", map_filter},
    {"select", choose_filter<true, false>},
    {"reject", choose_filter<false, false>},
    {"selectattr", choose_filter<true, true>},
    {"rejectattr", choose_filter<false, true>},
}};

}  // namespace

FilterFunction find_list_filter(std::string_view name) {
  return find_in_table(kFilters, name);
}

FilterFunction find_filter(std::string_view name) {
  const FilterFunction scalar = find_scalar_filter(name);
  return scalar != nullptr ? scalar : find_list_filter(name);
}

}  // namespace bifocal::text::jinja
