// The tests of templates: value is name(arguments).
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace bifocal::text::jinja {

TestFunction find_test(std::string_view name);  // nullptr: no such test

}  // namespace bifocal::text::jinja
