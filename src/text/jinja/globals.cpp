#include "text/jinja/globals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "text/jinja/evaluator.h"
#include "text/jinja/operators.h"

namespace bifocal::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // Jinja's sandbox has the same
constexpr size_t kMaxMessageBytes = 2000;

Value range(Runtime& runtime, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "range", {"start", "stop", "step"});
  const bool one = !arguments.has(1);
  const int64_t start = one ? 0 : arguments.integer(0, 0);
  const int64_t stop = one ? arguments.integer(0, 0) : arguments.integer(1, 0);
  const int64_t step = arguments.integer(2, 1);
  if (step == 0) runtime.fail("range() with a step of 0");
  // Unsigned, for the distance may not fit 64 bits with a sign.
  const bool empty = step > 0 ? start >= stop : start <= stop;
  const uint64_t distance = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                     : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
  const uint64_t count = empty ? 0 : (distance - 1) / stride + 1;
  if (count > static_cast<uint64_t>(kMaxRange))
    runtime.fail(fmt::format("range() of more than {} numbers", kMaxRange));
  runtime.charge(count);
  std::vector<Value> items;
  items.reserve(count);
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) items.push_back(Value::integer(start + i * step));
  return runtime.list(std::move(items));
}

Value dict(Runtime& runtime, const Arguments& given) {
  std::vector<std::pair<Value, Value>> items;
  if (given.positional.size() > 1 || (!given.positional.empty() && !given.positional[0].is_mapping())) {
    runtime.fail("dict() expected a mapping and named arguments");
  }
  if (!given.positional.empty()) items = given.positional[0].as_mapping().items;
  runtime.charge(items.size() * (1 + given.named.size()));
  for (const auto& [name, value] : given.named) {
    const Value key = Value::text(name);
    bool known = false;
    for (auto& [existing, old] : items) {
      if (!equal(existing, key)) continue;
      old = value;
      known = true;
    }
    if (!known) items.emplace_back(key, value);
  }
  return runtime.mapping(std::move(items));
}

Value name_space(Evaluator& evaluator, const Arguments& given) {
  std::vector<std::pair<std::string, Value>> attributes;
  const Value all = dict(evaluator, given);
  for (const auto& [key, value] : all.as_mapping().items)
    attributes.emplace_back(evaluator.print(key).bytes(), value);
  return evaluator.make_namespace(std::move(attributes));
}

Value raise_exception(Runtime& runtime, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "raise_exception", {"message"});
  const Text message = runtime.print(arguments[0]);
  size_t end = std::min(message.size(), kMaxMessageBytes);
  while (end > 0 && end < message.size() && (static_cast<unsigned char>(message.bytes()[end]) & 0xC0) == 0x80)
    --end;
  throw TemplateError{runtime.position(), message.bytes().substr(0, end), true};
}

Value strftime_now(Runtime& runtime, const Arguments& given) {
  const BoundArguments arguments(runtime, given, "strftime_now", {"format"});
  if (!arguments[0].is_text() || arguments[0].as_text().size() > 200)
    runtime.fail("strftime_now() expected a short format");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 1024> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), arguments[0].as_bytes().c_str(), &local);
  return runtime.text(Text(std::string(buffer.data(), size)));
}

}  // namespace

std::vector<std::pair<std::string_view, Value>> global_functions(Evaluator& evaluator) {
  return {
      {"range", Value::callable({"range", range})},
      {"dict", Value::callable({"dict", dict})},
      {"namespace",
       Value::callable(
           {"namespace", [&evaluator](Runtime&, const Arguments& a) { return name_space(evaluator, a); }})},
      {"raise_exception", Value::callable({"raise_exception", raise_exception})},
      {"strftime_now", Value::callable({"strftime_now", strftime_now})},
  };
}

}  // namespace bifocal::text::jinja
