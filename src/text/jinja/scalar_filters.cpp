// Filters on texts, numbers and single values.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "text/jinja/filter_support.h"
#include "text/jinja/json_dump.h"
#include "text/jinja/operators.h"

namespace bifocal::text::jinja {
namespace {

template <Text (*Map)(const Text&)>
Value map_text(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a case filter", {});
  const Text text = runtime.print(input);
  runtime.charge_work(text.size() * 4);
  return runtime.text(Map(text));
}

Value string_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "string", {});
  return input.is_text() ? input : runtime.text(runtime.print(input));
}

Value trim_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "trim", {"chars"});
  const Text text = runtime.print(input);
  if (!arguments.given(0)) return runtime.text(strip(text, Side::both));
  const std::string characters = runtime.print(arguments[0]).bytes();
  runtime.charge_work(text.size() * (1 + characters.size() / 4));
  return runtime.text(strip(text, Side::both, &characters));
}

Value replace_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "replace", {"old", "new", "count"});
  return replace_charged(runtime, runtime.print(input), runtime.print(arguments[0]).bytes(),
                         runtime.print(arguments[1]), arguments.integer(2, -1));
}

Value default_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "default", {"default_value", "boolean"});
  const bool absent = input.is_undefined() || (arguments.truthy(1, false) && !input.truthy());
  if (!absent) return input;
  return arguments.has(0) ? arguments[0] : Value::text("");
}

Value length_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "length", {});
  return Value::integer(length(runtime, input));
}

Value indent_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "indent", {"width", "first", "blank"});
  Text indentation;
  if (arguments.has(0) && arguments[0].is_text()) {
    indentation = arguments[0].as_text();
  } else {
    const int64_t width = std::max<int64_t>(0, arguments.integer(0, 4));
    runtime.check_bytes(static_cast<size_t>(width));
    indentation = Text(std::string(static_cast<size_t>(width), ' '));
  }
  const bool blank = arguments.truthy(2, false);
  const Text text = runtime.print(input);
  // A newline more, and the text's last line counts even when it is empty.
  Text ended = text;
  ended.append("\n");
  const std::vector<Text> lines = split_lines(ended, false);
  runtime.check_bytes(text.size() + lines.size() * (indentation.size() + 1));
  Text out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    const bool indented = i == 0 ? arguments.truthy(1, false) : blank || !lines[i].empty();
    if (indented) out.append(indentation);
    out.append(lines[i]);
  }
  return runtime.text(std::move(out));
}

Value escape_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "escape", {});
  const Text text = runtime.print(input);
  Text out;
  text.for_each_character([&](uint32_t c, std::string_view bytes, bool from_user) {
    switch (c) {
      case '&':
        return out.append("&amp;", from_user);
      case '<':
        return out.append("&lt;", from_user);
      case '>':
        return out.append("&gt;", from_user);
      case '\'':
        return out.append("&#39;", from_user);
      case '"':
        return out.append("&#34;", from_user);
      default:
        return out.append(bytes, from_user);
    }
  });
  return runtime.text(std::move(out));
}

Value safe_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "safe", {});
  return string_filter(runtime, input, {});
}

Value wordcount_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "wordcount", {});
  return Value::integer(static_cast<int64_t>(split(runtime.print(input), nullptr, -1).size()));
}

Value format_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  if (!given.named.empty()) runtime.fail("format() with named arguments");
  return format_percent(runtime, runtime.print(input), given.positional);
}

std::string indent_text(Runtime& runtime, const Value& value) {
  if (value.is_text()) return value.as_bytes();
  if (!value.is_integral()) runtime.fail("tojson(): indent is an integer or a string");
  const int64_t width = std::max<int64_t>(0, value.to_integer());
  if (width > 64) runtime.fail("tojson(): an indentation of more than 64");
  return std::string(static_cast<size_t>(width), ' ');
}

Value tojson_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "tojson",
                                 {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = arguments.truthy(0, false);
  style.sort_keys = arguments.truthy(3, false);
  if (arguments.given(1)) {
    style.indent = indent_text(runtime, arguments[1]);
    style.item_separator = ",";
  }
  if (arguments.given(2)) {
    const auto parts = iterate(runtime, arguments[2]);
    if (parts->size() != 2 || !(*parts)[0].is_text() || !(*parts)[1].is_text()) {
      runtime.fail("tojson(): separators are two strings");
    }
    style.item_separator = (*parts)[0].as_bytes();
    style.key_separator = (*parts)[1].as_bytes();
  }
  runtime.charge_weight(input);
  Text out;
  std::string_view unserializable;
  if (!dump_json(input, style, runtime.limits().max_output_bytes, out, unserializable)) {
    if (input.is_undefined()) runtime.fail_undefined(input);
    runtime.fail(fmt::format("tojson(): {} has no JSON form", unserializable));
  }
  return runtime.text(std::move(out));
}

// Python's int(text) and float(text): white space around, underscores between digits.
std::string number_text(const Text& text) {
  std::string out = strip(text, Side::both).bytes();
  std::erase(out, '_');
  if (out.starts_with('+')) out.erase(0, 1);
  return out;
}

std::optional<double> parse_real(const Text& text) {
  const std::string digits = number_text(text);
  if (digits.empty() || digits.size() > 400) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> real_to_integer(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value int_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "int", {"default", "base"});
  const Value absent = arguments.has(0) ? arguments[0] : Value::integer(0);
  if (input.is_integral()) return Value::integer(input.to_integer());
  std::optional<int64_t> value;
  if (input.is_real()) value = real_to_integer(input.as_real());
  if (input.is_text()) {
    const std::string digits = number_text(input.as_text());
    int64_t parsed = 0;
    const auto base = arguments.integer(1, 10);
    if (base < 2 || base > 36) runtime.fail("int(): the base is 2 to 36");
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), parsed, static_cast<int>(base));
    if (!digits.empty() && error == std::errc() && end == digits.data() + digits.size()) value = parsed;
    if (!value) {
      if (const auto real = parse_real(input.as_text())) value = real_to_integer(*real);
    }
  }
  return value ? Value::integer(*value) : absent;
}

Value float_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "float", {"default"});
  if (input.is_number()) return Value::real(input.to_real());
  if (input.is_text()) {
    if (const auto value = parse_real(input.as_text())) return Value::real(*value);
  }
  return arguments.has(0) ? arguments[0] : Value::real(0.0);
}

Value abs_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "abs", {});
  if (!input.is_number()) runtime.fail(fmt::format("abs() expected a number, got {}", input.type_name()));
  if (input.is_real()) return Value::real(std::abs(input.as_real()));
  return input.to_integer() < 0 ? negate(runtime, input) : Value::integer(input.to_integer());
}

Value round_filter(Runtime& runtime, const Value& input, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "round", {"precision", "method"});
  if (!input.is_number()) runtime.fail(fmt::format("round() expected a number, got {}", input.type_name()));
  const double scale = std::pow(10.0, static_cast<double>(arguments.integer(0, 0)));
  const std::string method = arguments.has(1) ? runtime.print(arguments[1]).bytes() : "common";
  const double scaled = input.to_real() * scale;
  if (method == "common") return Value::real(std::nearbyint(scaled) / scale);
  if (method == "ceil") return Value::real(std::ceil(scaled) / scale);
  if (method == "floor") return Value::real(std::floor(scaled) / scale);
  runtime.fail("round(): the method is common, ceil or floor");
}

constexpr std::array<FilterEntry, 22> kFilters = {{
    {"upper", map_text<upper>},
    {"lower", map_text<lower>},
    {"title", map_text<title_phrase>},
    {"capitalize", map_text<capitalize>},
    {"string", string_filter},
    {"trim", trim_filter},
    {"replace", replace_filter},
    {"default", default_filter},
    {"d", default_filter},
    {"length", length_filter},
    {"count", length_filter},
    {"indent", indent_filter},
    {"escape", escape_filter},
    {"e", escape_filter},
    {"safe", safe_filter},
    {"wordcount", wordcount_filter},
    {"format", format_filter},
    {"tojson", tojson_filter},
    {"int", int_filter},
    {"float", float_filter},
    {"abs", abs_filter},
    {"round", round_filter},
}};

}  // namespace

FilterFunction find_scalar_filter(std::string_view name) {
  return find_in_table(kFilters, name);
}

}  // namespace bifocal::text::jinja
