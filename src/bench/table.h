// Tables for people and machines: one set of rows as Markdown, CSV or JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::bench {

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // one cell per column
};

// format: "md", "csv" or "json" (an array of objects; cells that are numbers are written as numbers).
Expected<std::string> render(const Table& table, std::string_view format);

// "1,2,8", "512-4096*2" (512, 1024, 2048, 4096) and "1-4" (1, 2, 3, 4), joined by commas. Errors name the
// part.
Expected<std::vector<int>> parse_grid(std::string_view text);

}  // namespace bifocal::bench
