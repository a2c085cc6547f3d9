#include "text/jinja/text_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace bifocal::text::jinja {
namespace {

const Text& text_argument(Runtime& runtime, const BoundArguments& arguments, size_t i,
                          std::string_view method) {
  if (!arguments[i].is_text())
    runtime.fail(fmt::format("{}() expected a string, got {}", method, arguments[i].type_name()));
  return arguments[i].as_text();
}

// A string that may be absent or None.
const std::string* optional_text(Runtime& runtime, const BoundArguments& arguments, size_t i,
                                 std::string_view method) {
  return arguments.given(i) ? &text_argument(runtime, arguments, i, method).bytes() : nullptr;
}

Value list_of(Runtime& runtime, std::vector<Text> parts, ListKind kind = ListKind::list) {
  runtime.charge(parts.size());
  std::vector<Value> items;
  items.reserve(parts.size());
  for (Text& part : parts) items.push_back(Value::text(std::move(part)));
  return runtime.list(std::move(items), kind);
}

template <Side side>
Value strip_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "strip", {"chars"});
  const std::string* characters = optional_text(runtime, arguments, 0, "strip");
  runtime.charge_work(self.size() * (1 + (characters == nullptr ? 0 : characters->size() / 4)));
  return runtime.text(strip(self, side, characters));
}

template <std::vector<Text> (*Split)(const Text&, const std::string*, int64_t)>
Value split_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "split", {"sep", "maxsplit"});
  const std::string* separator = optional_text(runtime, arguments, 0, "split");
  if (separator != nullptr && separator->empty()) runtime.fail("split() with an empty separator");
  runtime.charge_work(self.size());
  return list_of(runtime, Split(self, separator, arguments.integer(1, -1)));
}

Value splitlines_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "splitlines", {"keepends"});
  runtime.charge_work(self.size());
  return list_of(runtime, split_lines(self, arguments.truthy(0, false)));
}

template <bool at_start>
Value affix_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const std::string_view name = at_start ? "startswith" : "endswith";
  const BoundArguments arguments(runtime, given, name, {at_start ? "prefix" : "suffix"});
  const auto matches = [&](const Value& affix) {
    if (!affix.is_text())
      runtime.fail(
          fmt::format("{}() expected a string or a tuple of strings, got {}", name, affix.type_name()));
    runtime.charge_work(affix.as_text().size());
    return at_start ? self.bytes().starts_with(affix.as_bytes()) : self.bytes().ends_with(affix.as_bytes());
  };
  const bool tuple = arguments[0].is_list() && arguments[0].as_list().kind == ListKind::tuple;
  if (!tuple) return Value::boolean(matches(arguments[0]));
  const auto& items = arguments[0].as_list().items;
  return Value::boolean(std::any_of(items.begin(), items.end(), matches));
}

Value replace_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "replace", {"old", "new", "count"});
  const Text& from = text_argument(runtime, arguments, 0, "replace");
  const Text& to = text_argument(runtime, arguments, 1, "replace");
  return replace_charged(runtime, self, from.bytes(), to, arguments.integer(2, -1));
}

template <Text (*Map)(const Text&)>
Value map_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a case method", {});
  runtime.charge_work(self.size() * 4);
  return runtime.text(Map(self));
}

// Offsets are counted in characters.
template <bool from_right, bool required>
Value find_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "find", {"sub"});
  const std::string& wanted = text_argument(runtime, arguments, 0, "find").bytes();
  runtime.charge_work(self.size());
  const size_t at = from_right ? self.bytes().rfind(wanted) : self.bytes().find(wanted);
  if (at != std::string::npos) {
    return Value::integer(
        static_cast<int64_t>(count_characters(std::string_view(self.bytes()).substr(0, at))));
  }
  if (required) runtime.fail("index(): the substring is not found");
  return Value::integer(-1);
}

Value count_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "count", {"sub"});
  const std::string& wanted = text_argument(runtime, arguments, 0, "count").bytes();
  runtime.charge_work(self.size());
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(count_characters(self.bytes())) + 1);
  int64_t count = 0;
  for (size_t at = self.bytes().find(wanted); at != std::string::npos;
       at = self.bytes().find(wanted, at + wanted.size()))
    ++count;
  return Value::integer(count);
}

Value join_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "join", {"iterable"});
  Text out;
  bool first = true;
  const auto items = iterate(runtime, arguments[0]);
  for (const Value& item : *items) {
    if (!item.is_text()) runtime.fail(fmt::format("join() expected strings, got {}", item.type_name()));
    runtime.check_bytes(out.size() + item.as_text().size() + self.size());
    if (!first) out.append(self);
    first = false;
    out.append(item.as_text());
  }
  return Value::text(std::move(out));
}

// True when there are characters and every one passes.
template <bool (*Passes)(uint32_t)>
Value is_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a character test", {});
  runtime.charge_work(self.size() * 4);
  bool all = !self.empty();
  self.for_each_character([&](uint32_t c, std::string_view, bool) { all = all && Passes(c); });
  return Value::boolean(all);
}

bool is_letter_or_number(uint32_t c) {
  return is_letter(c) || is_numeric(c);
}

// True when some character has the case and none the opposite one.
template <bool (*Has)(uint32_t), bool (*Opposite)(uint32_t)>
Value case_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "a case test", {});
  runtime.charge_work(self.size() * 4);
  bool some = false;
  bool opposite = false;
  self.for_each_character([&](uint32_t c, std::string_view, bool) {
    some = some || Has(c);
    opposite = opposite || Opposite(c);
  });
  return Value::boolean(some && !opposite);
}

template <bool prefix>
Value remove_affix_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const std::string_view name = prefix ? "removeprefix" : "removesuffix";
  const BoundArguments arguments(runtime, given, name, {"affix"});
  const std::string& affix = text_argument(runtime, arguments, 0, name).bytes();
  const bool found = prefix ? self.bytes().starts_with(affix) : self.bytes().ends_with(affix);
  const size_t cut = found ? affix.size() : 0;
  runtime.charge_work(self.size());
  return runtime.text(prefix ? self.slice(cut, self.size()) : self.slice(0, self.size() - cut));
}

template <bool from_right>
Value partition_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "partition", {"sep"});
  const Text& separator = text_argument(runtime, arguments, 0, "partition");
  if (separator.empty()) runtime.fail("partition() with an empty separator");
  runtime.charge_work(self.size());
  const size_t at = from_right ? self.bytes().rfind(separator.bytes()) : self.bytes().find(separator.bytes());
  std::vector<Text> parts(3);
  if (at == std::string::npos) {
    parts[from_right ? 2 : 0] = self;
  } else {
    const size_t end = at + separator.size();
    parts = {self.slice(0, at), self.slice(at, end), self.slice(end, self.size())};
  }
  return list_of(runtime, std::move(parts), ListKind::tuple);
}

enum class Align { left, right };

template <Align align>
Value justify_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "justify", {"width", "fillchar"});
  const int64_t width = arguments.integer(0, 0);
  const Text fill = arguments.has(1) ? text_argument(runtime, arguments, 1, "justify") : Text(" ");
  if (count_characters(fill.bytes()) != 1) runtime.fail("the fill of a justification is one character");
  const auto size = static_cast<int64_t>(count_characters(self.bytes()));
  const auto missing = static_cast<size_t>(std::max<int64_t>(0, width - size));
  runtime.check_bytes(missing);
  Text padding;
  for (size_t i = 0; i < missing; ++i) padding.append(fill);
  Text out = align == Align::left ? self : padding;
  out.append(align == Align::left ? padding : self);
  return runtime.text(std::move(out));
}

// str.format with the fields {}, {0} and {name}, without conversions and format specifications.
Value format_method(Runtime& runtime, const Text& self, const Arguments& given) {
  const std::string& bytes = self.bytes();
  Text out;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    out.append(self, at, brace);
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      out.append(self, brace, brace + 1);
      at = brace + 2;
      continue;
    }
    const size_t end = bytes.find('}', brace);
    if (bytes[brace] == '}' || end == std::string::npos) runtime.fail("format(): a single brace");
    const std::string_view field = std::string_view(bytes).substr(brace + 1, end - brace - 1);
    const Value* value = nullptr;
    if (field.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t index = field.empty() ? next++ : 0;
      for (const char digit : field.substr(0, 6)) index = index * 10 + static_cast<size_t>(digit - '0');
      if (index < given.positional.size()) value = &given.positional[index];
    } else {
      for (const auto& [name, argument] : given.named) {
        if (name == field) value = &argument;
      }
    }
    if (value == nullptr) runtime.fail(fmt::format("format(): no argument for the field '{}'", field));
    out.append(runtime.print(*value));
    runtime.check_bytes(out.size());
    at = end + 1;
  }
  return runtime.text(std::move(out));
}

constexpr std::array<TextMethodEntry, 34> kMethods = {{
    {"strip", strip_method<Side::both>},
    {"lstrip", strip_method<Side::left>},
    {"rstrip", strip_method<Side::right>},
    {"split", split_method<split>},
    {"rsplit", split_method<split_from_right>},
    {"splitlines", splitlines_method},
    {"startswith", affix_method<true>},
    {"endswith", affix_method<false>},
    {"replace", replace_method},
    {"upper", map_method<upper>},
    {"lower", map_method<lower>},
    {"title", map_method<title>},
    {"capitalize", map_method<capitalize>},
    {"find", find_method<false, false>},
    {"rfind", find_method<true, false>},
    {"index", find_method<false, true>},
    {"rindex", find_method<true, true>},
    {"count", count_method},
    {"join", join_method},
    {"isdigit", is_method<is_decimal_digit>},
    {"isdecimal", is_method<is_decimal_digit>},
    {"isnumeric", is_method<is_numeric>},
    {"isalpha", is_method<is_letter>},
    {"isalnum", is_method<is_letter_or_number>},
    {"isspace", is_method<is_python_space>},
    {"isupper", case_method<is_uppercase, is_lowercase>},
    {"islower", case_method<is_lowercase, is_uppercase>},
    {"removeprefix", remove_affix_method<true>},
    {"removesuffix", remove_affix_method<false>},
    {"partition", partition_method<false>},
    {"rpartition", partition_method<true>},
    {"ljust", justify_method<Align::left>},
    {"rjust", justify_method<Align::right>},
    {"format", format_method},
}};

}  // namespace

const TextMethodEntry* find_text_method(std::string_view name) {
  const auto* found =
      std::find_if(kMethods.begin(), kMethods.end(), [&](const auto& entry) { return entry.name == name; });
  return found == kMethods.end() ? nullptr : found;
}

}  // namespace bifocal::text::jinja
