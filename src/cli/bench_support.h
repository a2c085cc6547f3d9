// What the bench commands share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/table.h"

namespace bifocal::cli {

std::string giga(double value);  // in units of 1e9, one decimal

// format as in bench::render().
Status print_table(const bench::Table& table, const std::string& format);

// A list of numbers from 1 on; errors name the flag.
Expected<std::vector<int>> grid(std::string_view flag, const std::string& text);

template <class T>
Expected<T> with_flag(std::string_view flag, Expected<T> value) {
  if (!value.ok()) return value.status().with_context(flag);
  return value;
}

// Appends to a file, which it makes where there is none.
Status append_line(const std::string& path, std::string_view line);

}  // namespace bifocal::cli
