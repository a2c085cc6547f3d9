// What the operators of expressions do, as in Python.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace bifocal::text::jinja {

Value arithmetic(Runtime& runtime, ArithmeticOperator op, const Value& left, const Value& right);
Value negate(Runtime& runtime, const Value& operand);
Value concat(Runtime& runtime, const std::vector<Value>& operands);
bool compare(Runtime& runtime, ComparisonOperator op, const Value& left, const Value& right);

// Python's <, for values of like kinds.
bool less(Runtime& runtime, const Value& left, const Value& right);
// Python's == with its work charged.
bool equal_charged(Runtime& runtime, const Value& left, const Value& right);
bool contains(Runtime& runtime, const Value& container, const Value& item);
int64_t length(Runtime& runtime, const Value& value);

// The items that a loop over value visits: of a list, the characters of a text, the keys of a mapping; none
// if undefined.
std::shared_ptr<const std::vector<Value>> iterate(Runtime& runtime, const Value& value);

// The (key, value) tuples of a mapping; none of an undefined value.
Value items_of(Runtime& runtime, const Value& value);

// object.name: Python's attributes (methods) come first, then items. The name must outlive the value.
Value get_attribute(Runtime& runtime, const Value& object, std::string_view name);
// object[index]: items come first, then attributes.
Value get_item(Runtime& runtime, const Value& object, const Value& index);
// Bounds that are undefined or none are absent.
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step);

// str.replace; the size of the result is checked before it is made.
Value replace_charged(Runtime& runtime, const Text& text, const std::string& from, const Text& to,
                      int64_t max_count);

// Python's format % arguments.
Value format_percent(Runtime& runtime, const Text& format, const std::vector<Value>& arguments);

}  // namespace bifocal::text::jinja
