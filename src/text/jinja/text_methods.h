// The methods of Python's str that templates use.
#pragma once

#include <string_view>

#include "text/jinja/runtime.h"

namespace bifocal::text::jinja {

using TextMethod = Value (*)(Runtime&, const Text& self, const Arguments&);

// nullptr for names that are no method. The name in the table outlives everything.
struct TextMethodEntry {
  std::string_view name;
  TextMethod method;
};
const TextMethodEntry* find_text_method(std::string_view name);

}  // namespace bifocal::text::jinja
