#include "bench/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/json.h"
#include "base/utf8.h"

namespace bifocal::bench {
namespace {

constexpr int kMaxGridValues = 10'000;

size_t display_width(std::string_view text) {
  size_t width = 0;
  while (!text.empty()) {
    text.remove_prefix(static_cast<size_t>(decode_utf8(text).length));
    ++width;
  }
  return width;
}

std::string render_markdown(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    size_t width = display_width(table.columns[c]);
    for (const auto& row : table.rows) width = std::max(width, display_width(row[c]));
    widths.push_back(width);
  }
  std::string out;
  const auto add_row = [&](const std::vector<std::string>& cells) {
    for (size_t c = 0; c < cells.size(); ++c) {
      out += "| " + cells[c] + std::string(widths[c] - display_width(cells[c]) + 1, ' ');
    }
    out += "|\n";
  };
  add_row(table.columns);
  for (const size_t width : widths) out += "|" + std::string(width + 2, '-');
  out += "|\n";
  for (const auto& row : table.rows) add_row(row);
  return out;
}

std::string render_csv(const Table& table) {
  std::string out;
  const auto add_row = [&](const std::vector<std::string>& cells) {
    for (size_t c = 0; c < cells.size(); ++c) {
      std::string cell = cells[c];
      if (cell.find_first_of(",\"\n") != std::string::npos) {
        for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos; at += 2) cell.insert(at, 1, '"');
        cell = "\"" + cell + "\"";
      }
      out += (c == 0 ? "" : ",") + cell;
    }
    out += "\n";
  };
  add_row(table.columns);
  for (const auto& row : table.rows) add_row(row);
  return out;
}

std::string render_json(const Table& table) {
  JsonWriter writer;
  writer.begin_array();
  for (const auto& row : table.rows) {
    writer.begin_object();
    for (size_t c = 0; c < row.size(); ++c) {
      double number = 0;
      const char* end = row[c].data() + row[c].size();
      const auto [stop, error] = std::from_chars(row[c].data(), end, number);
      writer.key(table.columns[c]);
      if (error == std::errc() && stop == end) {
        writer.value(number);
      } else {
        writer.value(row[c]);
      }
    }
    writer.end_object();
  }
  writer.end_array();
  return writer.take() + "\n";
}

Expected<int> parse_number(std::string_view text, std::string_view part) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return invalid_argument(fmt::format("\"{}\" is no list; expected for example 1,2,8 or 512-4096*2", part));
  }
  return value;
}

}  // namespace

Expected<std::string> render(const Table& table, std::string_view format) {
  if (format == "md") return render_markdown(table);
  if (format == "csv") return render_csv(table);
  if (format == "json") return render_json(table);
  return invalid_argument(fmt::format("format \"{}\" is unknown; use md, csv or json", format));
}

Expected<std::vector<int>> parse_grid(std::string_view text) {
  std::vector<int> values;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const size_t dash = part.find('-');
    if (dash == std::string_view::npos) {
      BIFOCAL_ASSIGN_OR_RETURN(const int value, parse_number(part, part));
      values.push_back(value);
    } else {
      const size_t star = part.find('*', dash);
      BIFOCAL_ASSIGN_OR_RETURN(const int first, parse_number(part.substr(0, dash), part));
      BIFOCAL_ASSIGN_OR_RETURN(
          const int last,
          parse_number(part.substr(dash + 1, star == std::string_view::npos ? star : star - dash - 1), part));
      int factor = 1;
      if (star != std::string_view::npos) {
        BIFOCAL_ASSIGN_OR_RETURN(factor, parse_number(part.substr(star + 1), part));
        if (factor < 2 || first < 1) {
          return invalid_argument(
              fmt::format("\"{}\": a range with * starts at 1 or more and multiplies by 2 or more", part));
        }
      }
      for (int64_t v = first; v <= last; v = star == std::string_view::npos ? v + 1 : v * factor) {
        if (values.size() >= kMaxGridValues)
          return invalid_argument(fmt::format("\"{}\" has too many values", part));
        values.push_back(static_cast<int>(v));
      }
    }
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return values;
}

}  // namespace bifocal::bench
