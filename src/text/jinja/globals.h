// The functions that every template has: range, dict, namespace, raise_exception, strftime_now.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace bifocal::text::jinja {

class Evaluator;

// The evaluator must outlive the functions.
std::vector<std::pair<std::string_view, Value>> global_functions(Evaluator& evaluator);

}  // namespace bifocal::text::jinja
