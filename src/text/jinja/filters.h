// The filters of templates: value | name(arguments).
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace bifocal::text::jinja {

FilterFunction find_filter(std::string_view name);  // nullptr: no such filter

}  // namespace bifocal::text::jinja
