// What functions of templates need from the render: its budget, and a way to fail with a position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/jinja/error.h"
#include "text/jinja/value.h"

namespace bifocal::text::jinja {

// Every operation is charged in steps before it is done, and the steps are limited; so is the size of every
// string. An operation on bytes or items costs one step per 64, which keeps a step below some 100 ns.
class Runtime {
 public:
  explicit Runtime(const TemplateLimits& limits) : limits_(limits) {}

  void charge(size_t steps) {
    steps_ += steps;
    if (steps_ > static_cast<size_t>(limits_.max_steps)) fail_steps();
  }
  void charge_work(size_t amount) { charge(1 + amount / kWorkPerStep); }
  void charge_weight(const Value& value);  // an operation on all of it
  // A string of so many bytes is about to be made.
  void check_bytes(size_t bytes);

  Value text(Text text);
  Value list(std::vector<Value> items, ListKind kind = ListKind::list);
  Value mapping(std::vector<std::pair<Value, Value>> items);
  Text print(const Value& value);  // to_text, charged

  [[noreturn]] void fail(std::string message) const;
  // "'x' is undefined" and the like.
  [[noreturn]] void fail_undefined(const Value& value) const;
  void require_defined(const Value& value) const {
    if (value.is_undefined()) fail_undefined(value);
  }

  // Where the template is being executed.
  void set_position(Position position) { position_ = position; }
  Position position() const { return position_; }

  const TemplateLimits& limits() const { return limits_; }

 private:
  static constexpr size_t kWorkPerStep = 64;
  [[noreturn]] void fail_steps() const;

  TemplateLimits limits_;
  size_t steps_ = 0;
  Position position_;
};

// The arguments of a call by parameter; absent ones are undefined.
class BoundArguments {
 public:
  // Fails on unknown, doubled or superfluous arguments, naming `function`.
  BoundArguments(const Runtime& runtime, const Arguments& arguments, std::string_view function,
                 std::initializer_list<std::string_view> parameters);

  const Value& operator[](size_t i) const { return values_[i]; }
  bool has(size_t i) const { return !values_[i].is_undefined(); }
  // None counts as absent.
  bool given(size_t i) const { return has(i) && !values_[i].is_none(); }
  bool truthy(size_t i, bool absent) const { return has(i) ? values_[i].truthy() : absent; }
  int64_t integer(size_t i, int64_t absent) const;

 private:
  const Runtime& runtime_;
  std::string_view function_;
  std::vector<Value> values_;
};

}  // namespace bifocal::text::jinja
