// Comma-separated values (RFC 4180): quoted fields may hold commas, quotes (doubled) and line ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::eval {

// Empty lines are skipped. Errors: invalid_argument for a quote that is not closed, or text behind one.
Expected<std::vector<std::vector<std::string>>> parse_csv(std::string_view text);
Expected<std::vector<std::vector<std::string>>> read_csv(const std::string& path);

}  // namespace bifocal::eval
