// The methods of strings, mappings and lists, and the attributes of `loop`. Methods that would change their
// object do not exist.
#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace bifocal::text::jinja {

bool is_text_method(std::string_view name);
// Also true for Python's methods that change a dictionary: they hide a key of that name, and cannot be
// called.
bool is_mapping_method(std::string_view name);
bool is_list_method(std::string_view name);

// The method of an object for whose kind the name is a method; undefined when it would change the object.
Value bound_method(const Value& object, std::string_view name);

Value loop_attribute(Runtime& runtime, Loop& loop, std::string_view name);

}  // namespace bifocal::text::jinja
