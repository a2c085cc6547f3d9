#include "text/jinja/tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/operators.h"
#include "text/jinja/runtime.h"
#include "text/unicode.h"

namespace bifocal::text::jinja {
namespace {

template <bool (*Is)(const Value&)>
bool plain(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a test", {});
  return Is(value);
}

bool is_defined(const Value& v) {
  return !v.is_undefined();
}
bool is_undefined(const Value& v) {
  return v.is_undefined();
}
bool is_none(const Value& v) {
  return v.is_none() || (v.is_undefined() && v.undefined_null());
}
bool is_string(const Value& v) {
  return v.is_text();
}
bool is_mapping(const Value& v) {
  return v.is_mapping();
}
bool is_iterable(const Value& v) {
  return v.is_undefined() || v.is_text() || v.is_list() || v.is_mapping() || v.kind() == Kind::loop;
}
bool is_sequence(const Value& v) {
  return is_iterable(v) && !(v.is_list() && v.as_list().kind == ListKind::generator);
}
bool is_number(const Value& v) {
  return v.is_number();
}
bool is_integer(const Value& v) {
  return v.is_integer();
}
bool is_float(const Value& v) {
  return v.is_real();
}
bool is_boolean(const Value& v) {
  return v.is_boolean();
}
bool is_true(const Value& v) {
  return v.is_boolean() && v.as_boolean();
}
bool is_false(const Value& v) {
  return v.is_boolean() && !v.as_boolean();
}
bool is_callable(const Value& v) {
  return v.is_callable() || v.is_undefined();
}

template <ComparisonOperator op>
bool comparison(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a comparing test", {"other"});
  return compare(runtime, op, value, arguments[0]);
}

bool same_as(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "sameas", {"other"});
  return value.kind() == arguments[0].kind() && equal_charged(runtime, value, arguments[0]);
}

int64_t remainder(Runtime& runtime, const Value& value, const Value& divisor) {
  const Value result = arithmetic(runtime, ArithmeticOperator::modulo, value, divisor);
  if (!result.is_integer()) runtime.fail(fmt::format("a test of divisibility on {}", value.type_name()));
  return result.as_integer();
}

bool divisible_by(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "divisibleby", {"num"});
  return remainder(runtime, value, arguments[0]) == 0;
}

template <int64_t rest>
bool parity(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a parity test", {});
  return remainder(runtime, value, Value::integer(2)) == rest;
}

// True when some character has the case and none the opposite one.
template <bool (*Has)(uint32_t), bool (*Opposite)(uint32_t)>
bool has_case(Runtime& runtime, const Value& value, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a case test", {});
  bool some = false;
  bool opposite = false;
  const Text text = runtime.print(value);
  text.for_each_character([&](uint32_t c, std::string_view, bool) {
    some = some || Has(c);
    opposite = opposite || Opposite(c);
  });
  return some && !opposite;
}

constexpr std::array<std::pair<std::string_view, TestFunction>, 36> kTests = {{
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_string>},
    {"mapping", plain<is_mapping>},
    {"iterable", plain<is_iterable>},
    {"sequence", plain<is_sequence>},
    {"number", plain<is_number>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"boolean", plain<is_boolean>},
    {"true", plain<is_true>},
    {"false", plain<is_false>},
    {"callable", plain<is_callable>},
    {"in", comparison<ComparisonOperator::in>},
    {"eq", comparison<ComparisonOperator::equal>},
    {"==", comparison<ComparisonOperator::equal>},
    {"equalto", comparison<ComparisonOperator::equal>},
    {"ne", comparison<ComparisonOperator::not_equal>},
    {"!=", comparison<ComparisonOperator::not_equal>},
    {"lt", comparison<ComparisonOperator::less>},
    {"<", comparison<ComparisonOperator::less>},
    {"lessthan", comparison<ComparisonOperator::less>},
    {"le", comparison<ComparisonOperator::less_equal>},
    {"<=", comparison<ComparisonOperator::less_equal>},
    {"gt", comparison<ComparisonOperator::greater>},
    {">", comparison<ComparisonOperator::greater>},
    {"greaterthan", comparison<ComparisonOperator::greater>},
    {"ge", comparison<ComparisonOperator::greater_equal>},
    {">=", comparison<ComparisonOperator::greater_equal>},
    {"sameas", same_as},
    {"divisibleby", divisible_by},
    {"even", parity<0>},
    {"odd", parity<1>},
    {"lower", has_case<is_lowercase, is_uppercase>},
    {"upper", has_case<is_uppercase, is_lowercase>},
}};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto* found =
      std::find_if(kTests.begin(), kTests.end(), [&](const auto& entry) { return entry.first == name; });
  return found == kTests.end() ? nullptr : found->second;
}

}  // namespace bifocal::text::jinja
