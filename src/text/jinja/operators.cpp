#include "text/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja/methods.h"

namespace bifocal::text::jinja {
namespace {

constexpr std::array<std::string_view, 7> kOperatorNames = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void fail_types(const Runtime& runtime, std::string_view op, const Value& left,
                             const Value& right) {
  runtime.fail(fmt::format("'{}' cannot combine {} and {}", op, left.type_name(), right.type_name()));
}

[[noreturn]] void fail_overflow(const Runtime& runtime) {
  runtime.fail("an integer does not fit 64 bits");
}

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

double floor_modulo(double a, double b) {
  const double m = std::fmod(a, b);
  return m != 0.0 && (m < 0.0) != (b < 0.0) ? m + b : m;
}

Value integer_power(Runtime& runtime, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) runtime.fail("division by zero");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail_overflow(runtime);
    exponent >>= 1;
    if (exponent == 0) return Value::integer(result);
    if (__builtin_mul_overflow(base, base, &base)) fail_overflow(runtime);
  }
}

Value integer_arithmetic(Runtime& runtime, ArithmeticOperator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  const bool divides = op == ArithmeticOperator::divide || op == ArithmeticOperator::floor_divide ||
                       op == ArithmeticOperator::modulo;
  if (divides && b == 0) runtime.fail("division by zero");
  switch (op) {
    case ArithmeticOperator::add:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case ArithmeticOperator::subtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case ArithmeticOperator::multiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case ArithmeticOperator::divide:
      return Value::real(static_cast<double>(a) / static_cast<double>(b));
    case ArithmeticOperator::floor_divide:
      overflow = a == INT64_MIN && b == -1;
      if (!overflow) result = floor_divide(a, b);
      break;
    case ArithmeticOperator::modulo:
      result = b == -1 ? 0 : a % b;
      if (result != 0 && (result < 0) != (b < 0)) result += b;
      break;
    case ArithmeticOperator::power:
      return integer_power(runtime, a, b);
  }
  if (overflow) fail_overflow(runtime);
  return Value::integer(result);
}

Value real_arithmetic(Runtime& runtime, ArithmeticOperator op, double a, double b) {
  const bool divides = op == ArithmeticOperator::divide || op == ArithmeticOperator::floor_divide ||
                       op == ArithmeticOperator::modulo;
  if (divides && b == 0.0) runtime.fail("division by zero");
  switch (op) {
    case ArithmeticOperator::add:
      return Value::real(a + b);
    case ArithmeticOperator::subtract:
      return Value::real(a - b);
    case ArithmeticOperator::multiply:
      return Value::real(a * b);
    case ArithmeticOperator::divide:
      return Value::real(a / b);
    case ArithmeticOperator::floor_divide:
      return Value::real(std::floor(a / b));
    case ArithmeticOperator::modulo:
      return Value::real(floor_modulo(a, b));
    case ArithmeticOperator::power:
      return Value::real(std::pow(a, b));
  }
  return {};
}

Value repeat(Runtime& runtime, const Value& sequence, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t size = sequence.is_text() ? sequence.as_text().size() : sequence.as_list().items.size();
  const size_t limit = runtime.limits().max_output_bytes;
  if (size != 0 && times > limit / size)
    runtime.fail(fmt::format("a repetition to more than {} bytes or items", limit));
  runtime.charge_work(size * times);
  if (sequence.is_text()) {
    Text out;
    for (size_t i = 0; size != 0 && i < times; ++i) out.append(sequence.as_text());
    return runtime.text(std::move(out));
  }
  runtime.charge(size * times);
  std::vector<Value> items;
  for (size_t i = 0; size != 0 && i < times; ++i) {
    items.insert(items.end(), sequence.as_list().items.begin(), sequence.as_list().items.end());
  }
  return runtime.list(std::move(items), sequence.as_list().kind);
}

bool is_sequence(const Value& value) {
  return value.is_text() || (value.is_list() && value.as_list().kind != ListKind::generator);
}

Value sequence_arithmetic(Runtime& runtime, ArithmeticOperator op, const Value& left, const Value& right) {
  if (op == ArithmeticOperator::add && left.is_text() && right.is_text())
    return concat(runtime, {left, right});
  if (op == ArithmeticOperator::add && is_sequence(left) && left.is_list() && right.is_list() &&
      left.as_list().kind == right.as_list().kind) {
    runtime.charge(left.as_list().items.size() + right.as_list().items.size());
    std::vector<Value> items = left.as_list().items;
    items.insert(items.end(), right.as_list().items.begin(), right.as_list().items.end());
    return runtime.list(std::move(items), left.as_list().kind);
  }
  if (op == ArithmeticOperator::multiply && is_sequence(left) && right.is_integral())
    return repeat(runtime, left, right.to_integer());
  if (op == ArithmeticOperator::multiply && left.is_integral() && is_sequence(right))
    return repeat(runtime, right, left.to_integer());
  if (op == ArithmeticOperator::modulo && left.is_text()) {
    const bool tuple = right.is_list() && right.as_list().kind == ListKind::tuple;
    return format_percent(runtime, left.as_text(), tuple ? right.as_list().items : std::vector<Value>{right});
  }
  fail_types(runtime, kOperatorNames[static_cast<size_t>(op)], left, right);
}

// One item of a text: a character.
Value character_at(Runtime& runtime, const Text& text, int64_t index) {
  runtime.charge_work(text.size());
  const auto count = static_cast<int64_t>(count_characters(text.bytes()));
  if (index < 0) index += count;
  if (index < 0 || index >= count) return {};
  const size_t begin = byte_offset(text.bytes(), static_cast<size_t>(index));
  const size_t end = begin + byte_offset(std::string_view(text.bytes()).substr(begin), 1);
  return Value::text(text.slice(begin, end));
}

// Python's slice.indices: the positions that a slice visits are start, start + step, ... (count of them).
struct SliceRange {
  int64_t start;
  int64_t step;
  int64_t count;
};

SliceRange slice_range(Runtime& runtime, int64_t size, const Value& start, const Value& stop,
                       const Value& step) {
  const auto bound = [&](const Value& value, int64_t absent, int64_t lowest, int64_t highest) {
    if (value.is_undefined() || value.is_none()) return absent;
    if (!value.is_integral())
      runtime.fail(fmt::format("slice bounds are integers, got {}", value.type_name()));
    const int64_t v = value.to_integer();
    return std::clamp(v < 0 ? std::max(v, -size - 1) + size : v, lowest, highest);
  };
  int64_t by = 1;
  if (!step.is_undefined() && !step.is_none()) {
    if (!step.is_integral() || step.to_integer() == 0)
      runtime.fail("the step of a slice is an integer other than 0");
    by = std::clamp(step.to_integer(), -(int64_t{1} << 40), int64_t{1} << 40);
  }
  const int64_t lowest = by > 0 ? 0 : -1;
  const int64_t highest = by > 0 ? size : size - 1;
  const int64_t from = bound(start, by > 0 ? lowest : highest, lowest, highest);
  const int64_t to = bound(stop, by > 0 ? highest : lowest, lowest, highest);
  const int64_t distance = by > 0 ? to - from : from - to;
  const int64_t stride = by > 0 ? by : -by;
  return {from, by, distance <= 0 ? 0 : (distance + stride - 1) / stride};
}

}  // namespace

Value arithmetic(Runtime& runtime, ArithmeticOperator op, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return integer_arithmetic(runtime, op, left.to_integer(), right.to_integer());
  }
  if (left.is_number() && right.is_number())
    return real_arithmetic(runtime, op, left.to_real(), right.to_real());
  runtime.require_defined(left);
  runtime.require_defined(right);
  return sequence_arithmetic(runtime, op, left, right);
}

Value negate(Runtime& runtime, const Value& operand) {
  if (operand.is_real()) return Value::real(-operand.as_real());
  return arithmetic(runtime, ArithmeticOperator::subtract, Value::integer(0), operand);
}

Value concat(Runtime& runtime, const std::vector<Value>& operands) {
  Text out;
  for (const Value& operand : operands) {
    if (operand.is_text()) {
      runtime.check_bytes(out.size() + operand.as_text().size());
      out.append(operand.as_text());
    } else {
      out.append(runtime.print(operand));
    }
  }
  return runtime.text(std::move(out));
}

bool less(Runtime& runtime, const Value& left, const Value& right) {
  runtime.require_defined(left);
  runtime.require_defined(right);
  if (left.is_integral() && right.is_integral()) return left.to_integer() < right.to_integer();
  if (left.is_number() && right.is_number()) return left.to_real() < right.to_real();
  if (left.is_text() && right.is_text()) {
    runtime.charge_work(std::min(left.as_text().size(), right.as_text().size()));
    return left.as_bytes() < right.as_bytes();
  }
  if (is_sequence(left) && left.is_list() && right.is_list() && left.as_list().kind == right.as_list().kind) {
    const auto& a = left.as_list().items;
    const auto& b = right.as_list().items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal_charged(runtime, a[i], b[i])) return less(runtime, a[i], b[i]);
    }
    return a.size() < b.size();
  }
  fail_types(runtime, "<", left, right);
}

bool equal_charged(Runtime& runtime, const Value& left, const Value& right) {
  if (left.kind() == right.kind()) {
    const auto limit = static_cast<size_t>(runtime.limits().max_steps);
    size_t work = std::min(weight(left, limit), weight(right, limit));
    // Each key of one mapping is looked up among the other's.
    if (left.is_mapping()) work *= 1 + work / 16;
    runtime.charge(work);
  }
  return equal(left, right);
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::undefined:
      return false;
    case Kind::text:
      if (!item.is_text()) fail_types(runtime, "in", item, container);
      runtime.charge_work(container.as_text().size());
      return container.as_bytes().find(item.as_bytes()) != std::string::npos;
    case Kind::list:
      return std::any_of(container.as_list().items.begin(), container.as_list().items.end(),
                         [&](const Value& v) {
                           runtime.charge(1);
                           return equal_charged(runtime, v, item);
                         });
    case Kind::mapping:
      runtime.charge(container.as_mapping().items.size());
      return container.as_mapping().find(item) != nullptr;
    default:
      runtime.fail(fmt::format("'in' cannot search {}", container.type_name()));
  }
}

bool compare(Runtime& runtime, ComparisonOperator op, const Value& left, const Value& right) {
  switch (op) {
    case ComparisonOperator::equal:
      return equal_charged(runtime, left, right);
    case ComparisonOperator::not_equal:
      return !equal_charged(runtime, left, right);
    case ComparisonOperator::less:
      return less(runtime, left, right);
    case ComparisonOperator::greater:
      return less(runtime, right, left);
    case ComparisonOperator::less_equal:
      return less(runtime, left, right) || equal_charged(runtime, left, right);
    case ComparisonOperator::greater_equal:
      return less(runtime, right, left) || equal_charged(runtime, left, right);
    case ComparisonOperator::in:
      return contains(runtime, right, left);
    case ComparisonOperator::not_in:
      return !contains(runtime, right, left);
  }
  return false;
}

int64_t length(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::text:
      runtime.charge_work(value.as_text().size());
      return static_cast<int64_t>(count_characters(value.as_bytes()));
    case Kind::list:
      if (value.as_list().kind == ListKind::generator) break;
      return static_cast<int64_t>(value.as_list().items.size());
    case Kind::mapping:
      return static_cast<int64_t>(value.as_mapping().items.size());
    default:
      break;
  }
  runtime.fail(fmt::format("{} has no length", value.type_name()));
}

std::shared_ptr<const std::vector<Value>> iterate(Runtime& runtime, const Value& value) {
  if (value.is_list()) return value.share_items();
  auto items = std::make_shared<std::vector<Value>>();
  switch (value.kind()) {
    case Kind::undefined:
      break;
    case Kind::text:
      runtime.charge(value.as_text().size());
      value.as_text().for_each_character([&](uint32_t, std::string_view bytes, bool from_user) {
        items->push_back(Value::text(Text(std::string(bytes), from_user)));
      });
      break;
    case Kind::mapping:
      runtime.charge(value.as_mapping().items.size());
      for (const auto& [key, item] : value.as_mapping().items) items->push_back(key);
      break;
    default:
      runtime.fail(fmt::format("{} cannot be iterated over", value.type_name()));
  }
  return items;
}

Value get_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::undefined:
      runtime.fail_undefined(object);
    case Kind::mapping: {
      if (is_mapping_method(name)) return bound_method(object, name);
      runtime.charge_work(object.as_mapping().items.size() * 16);
      const Value* item = object.as_mapping().find(name);
      return item == nullptr ? object.as_mapping().missing(name, name) : *item;
    }
    case Kind::name_space: {
      runtime.charge_work(object.as_namespace().attributes.size() * 16);
      const Value* attribute = object.as_namespace().find(name);
      return attribute == nullptr ? Value::undefined(name) : *attribute;
    }
    case Kind::loop:
      return loop_attribute(runtime, object.as_loop(), name);
    case Kind::text:
      if (is_text_method(name)) return bound_method(object, name);
      break;
    case Kind::list:
      if (is_list_method(name)) return bound_method(object, name);
      break;
    default:
      break;
  }
  return Value::undefined(name);
}

Value get_item(Runtime& runtime, const Value& object, const Value& index) {
  runtime.require_defined(object);
  if (object.is_mapping()) {
    runtime.charge_work(object.as_mapping().items.size() * 16);
    if (const Value* item = object.as_mapping().find(index)) return *item;
    if (index.is_text() && is_mapping_method(index.as_bytes())) return bound_method(object, index.as_bytes());
    return index.is_text() ? object.as_mapping().missing(index.as_bytes(), "") : Value();
  }
  if (index.is_integral() && object.is_text())
    return character_at(runtime, object.as_text(), index.to_integer());
  if (index.is_integral() && is_sequence(object)) {
    const auto& items = object.as_list().items;
    const auto size = static_cast<int64_t>(items.size());
    const int64_t i = index.to_integer() < 0 ? index.to_integer() + size : index.to_integer();
    return i < 0 || i >= size ? Value() : items[static_cast<size_t>(i)];
  }
  if (!index.is_text()) return {};
  // Undefined values refer to names in the template only, not to those made while it runs.
  Value attribute = get_attribute(runtime, object, index.as_bytes());
  return attribute.is_undefined() ? Value() : attribute;
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  runtime.require_defined(object);
  if (object.is_text()) {
    const Text& text = object.as_text();
    const SliceRange range = slice_range(runtime, length(runtime, object), start, stop, step);
    if (range.step == 1) {
      const size_t begin = byte_offset(text.bytes(), static_cast<size_t>(range.start));
      const std::string_view rest = std::string_view(text.bytes()).substr(begin);
      return runtime.text(text.slice(begin, begin + byte_offset(rest, static_cast<size_t>(range.count))));
    }
    const auto characters = iterate(runtime, object);
    Text out;
    for (int64_t i = 0; i < range.count; ++i) {
      out.append((*characters)[static_cast<size_t>(range.start + i * range.step)].as_text());
    }
    return runtime.text(std::move(out));
  }
  if (!is_sequence(object)) runtime.fail(fmt::format("{} cannot be sliced", object.type_name()));
  const auto& items = object.as_list().items;
  const SliceRange range = slice_range(runtime, static_cast<int64_t>(items.size()), start, stop, step);
  runtime.charge(static_cast<size_t>(range.count));
  std::vector<Value> out;
  out.reserve(static_cast<size_t>(range.count));
  for (int64_t i = 0; i < range.count; ++i)
    out.push_back(items[static_cast<size_t>(range.start + i * range.step)]);
  return runtime.list(std::move(out), object.as_list().kind);
}

}  // namespace bifocal::text::jinja
