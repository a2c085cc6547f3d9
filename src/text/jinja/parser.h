// Turns the source of a template into its syntax tree.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace bifocal::text::jinja {

// max_depth bounds how deep statements and expressions nest. Throws TemplateError.
Body parse(std::string_view source, int max_depth);

}  // namespace bifocal::text::jinja
