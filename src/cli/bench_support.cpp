#include "cli/bench_support.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace bifocal::cli {

std::string giga(double value) {
  return fmt::format("{:.1f}", value * 1e-9);
}

Status print_table(const bench::Table& table, const std::string& format) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, bench::render(table, format));
  fmt::print("{}", text);
  return {};
}

Expected<std::vector<int>> grid(std::string_view flag, const std::string& text) {
  auto values = bench::parse_grid(text);
  if (!values.ok()) return values.status().with_context(flag);
  if (std::find(values->begin(), values->end(), 0) != values->end()) {
    return invalid_argument(fmt::format("{}: got 0, expected 1 or more", flag));
  }
  return values;
}

Status append_line(const std::string& path, std::string_view line) {
  std::ofstream file(path, std::ios::app);
  file << line << '\n';
  file.close();
  if (file) return {};
  return invalid_argument(fmt::format("{}: can't write: {}", path, std::strerror(errno)));
}

}  // namespace bifocal::cli
