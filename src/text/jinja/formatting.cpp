// Operators that make texts: replacing, and Python's percent formatting.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"

namespace bifocal::text::jinja {
namespace {

// A conversion of a percent format: %[flags][width][.precision]letter
struct Conversion {
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool space = false;
  size_t width = 0;
  int precision = -1;
  char letter = '\0';
};

constexpr int kMaxPrecision = 100;

Conversion read_conversion(Runtime& runtime, std::string_view format, size_t& at) {
  Conversion out;
  const auto peek = [&] { return at < format.size() ? format[at] : '\0'; };
  const auto number = [&] {
    size_t value = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at)
      value = std::min<size_t>(value * 10 + static_cast<size_t>(peek() - '0'), 1'000'000'000);
    return value;
  };
  for (;; ++at) {
    if (peek() == '-') {
      out.left = true;
    } else if (peek() == '0') {
      out.zero = true;
    } else if (peek() == '+') {
      out.plus = true;
    } else if (peek() == ' ') {
      out.space = true;
    } else {
      break;
    }
  }
  out.width = number();
  runtime.check_bytes(out.width);
  if (peek() == '.') {
    ++at;
    const size_t precision = number();
    if (precision > kMaxPrecision) runtime.fail(fmt::format("a precision above {}", kMaxPrecision));
    out.precision = static_cast<int>(precision);
  }
  out.letter = peek();
  ++at;
  return out;
}

std::string signed_digits(const Conversion& conversion, bool negative, std::string digits) {
  const std::string sign = negative ? "-" : conversion.plus ? "+" : conversion.space ? " " : "";
  if (conversion.zero && !conversion.left && digits.size() + sign.size() < conversion.width) {
    digits.insert(0, conversion.width - digits.size() - sign.size(), '0');
  }
  return sign + digits;
}

Text convert(Runtime& runtime, const Conversion& conversion, const Value& value) {
  const auto number = [&] {
    if (!value.is_number())
      runtime.fail(fmt::format("%{} expects a number, got {}", conversion.letter, value.type_name()));
  };
  switch (conversion.letter) {
    case 's': {
      Text text = runtime.print(value);
      if (conversion.precision < 0) return text;
      return text.slice(0, byte_offset(text.bytes(), static_cast<size_t>(conversion.precision)));
    }
    case 'd':
    case 'i':
    case 'x': {
      number();
      if (value.is_real() && !(std::abs(value.as_real()) < 9e18))
        runtime.fail("an integer does not fit 64 bits");
      const int64_t integer = value.is_real() ? static_cast<int64_t>(value.as_real()) : value.to_integer();
      const auto magnitude =
          integer < 0 ? uint64_t{0} - static_cast<uint64_t>(integer) : static_cast<uint64_t>(integer);
      return Text(signed_digits(
          conversion, integer < 0,
          conversion.letter == 'x' ? fmt::format("{:x}", magnitude) : fmt::format("{}", magnitude)));
    }
    case 'f': {
      number();
      const double real = value.to_real();
      return Text(signed_digits(
          conversion, std::signbit(real),
          fmt::format("{:.{}f}", std::abs(real), conversion.precision < 0 ? 6 : conversion.precision)));
    }
    default:
      runtime.fail(
          fmt::format("a format has the conversion '%{}', expected s, d, i, x or f", conversion.letter));
  }
}

}  // namespace

Value replace_charged(Runtime& runtime, const Text& text, const std::string& from, const Text& to,
                      int64_t max_count) {
  runtime.charge_work(text.size());
  size_t count = 0;
  if (from.empty()) {
    count = count_characters(text.bytes()) + 1;
  } else {
    for (size_t at = text.bytes().find(from); at != std::string::npos;
         at = text.bytes().find(from, at + from.size()))
      ++count;
  }
  if (max_count >= 0) count = std::min(count, static_cast<size_t>(max_count));
  if (to.size() > 0 && count > runtime.limits().max_output_bytes / to.size())
    runtime.check_bytes(SIZE_MAX / 2);
  runtime.check_bytes(text.size() + count * to.size() - count * from.size());
  return Value::text(replace(text, from, to, max_count));
}

Value format_percent(Runtime& runtime, const Text& format, const std::vector<Value>& arguments) {
  const std::string& bytes = format.bytes();
  Text out;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', at), bytes.size());
    out.append(format, at, percent);
    at = percent + 1;
    if (percent == bytes.size()) break;
    if (at < bytes.size() && bytes[at] == '%') {
      out.append(format, at, at + 1);
      ++at;
      continue;
    }
    const Conversion conversion = read_conversion(runtime, bytes, at);
    if (next >= arguments.size()) runtime.fail("a format has more conversions than arguments");
    const Text piece = convert(runtime, conversion, arguments[next++]);
    const size_t size = count_characters(piece.bytes());
    const size_t padding = size < conversion.width ? conversion.width - size : 0;
    runtime.check_bytes(out.size() + piece.size() + padding);
    if (!conversion.left) out.append(std::string(padding, ' '));
    out.append(piece);
    if (conversion.left) out.append(std::string(padding, ' '));
  }
  if (next < arguments.size()) runtime.fail("a format has fewer conversions than arguments");
  return runtime.text(std::move(out));
}

Value items_of(Runtime& runtime, const Value& value) {
  std::vector<Value> out;
  if (value.is_undefined()) return runtime.list(std::move(out));
  if (!value.is_mapping()) runtime.fail(fmt::format("only mappings have items, got {}", value.type_name()));
  for (const auto& [key, item] : value.as_mapping().items)
    out.push_back(runtime.list({key, item}, ListKind::tuple));
  return runtime.list(std::move(out));
}

}  // namespace bifocal::text::jinja
