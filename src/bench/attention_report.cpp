// Grids from text, tables and the plot of the attention benchmark.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "bench/attention_bench.h"

namespace bifocal::bench {
namespace {

// fn(part) for each part between commas.
template <class Fn>
Status for_parts(std::string_view text, Fn fn) {
  while (true) {
    const size_t comma = text.find(',');
    BIFOCAL_RETURN_IF_ERROR(fn(text.substr(0, comma)));
    if (comma == std::string_view::npos) return {};
    text.remove_prefix(comma + 1);
  }
}

// Everything but the query length, under a name.
std::string panel_title(const AttentionShape& s) {
  const auto part = [](const char* format, int value) {
    return value == 0 ? std::string() : fmt::format(fmt::runtime(format), value);
  };
  return fmt::format("{} heads on {} KV heads of {}, {} sequence{} of {} keys{}{}, {}", s.num_heads,
                     s.num_kv_heads,
                     s.head_dim_k == s.head_dim_v ? fmt::format("{}", s.head_dim_k)
                                                  : fmt::format("{}/{}", s.head_dim_k, s.head_dim_v),
                     s.batch, s.batch == 1 ? "" : "s", s.kv_len, part(", window {}", s.window),
                     part(", {} shared", s.shared_prefix), to_string(s.dtype));
}

}  // namespace

std::vector<AttentionShape> expand(const AttentionGrid& grid) {
  // Innermost last: rows that are compared stand together.
  std::vector<AttentionShape> shapes(1);
  const auto vary = [&](const auto& values, auto set) {
    std::vector<AttentionShape> next;
    for (const AttentionShape& shape : shapes) {
      for (const auto& value : values) set(next.emplace_back(shape), value);
    }
    shapes = std::move(next);
  };
  vary(grid.heads, [](AttentionShape& s, int v) { s.num_heads = v; });
  vary(grid.kv_heads, [](AttentionShape& s, int v) { s.num_kv_heads = v; });
  vary(grid.dims, [](AttentionShape& s, attention::HeadDims v) {
    s.head_dim_k = v.k;
    s.head_dim_v = v.v;
  });
  vary(grid.dtype, [](AttentionShape& s, DType v) { s.dtype = v; });
  vary(grid.random_pages, [](AttentionShape& s, bool v) { s.random_pages = v; });
  vary(grid.page_size, [](AttentionShape& s, int v) { s.page_size = v; });
  vary(grid.window, [](AttentionShape& s, int v) { s.window = v; });
  vary(grid.batch, [](AttentionShape& s, int v) { s.batch = v; });
  vary(grid.kv_len, [](AttentionShape& s, int v) { s.kv_len = v; });
  vary(grid.shared_prefix, [](AttentionShape& s, int v) { s.shared_prefix = v; });
  vary(grid.q_len, [](AttentionShape& s, int v) { s.q_len = v; });
  std::erase_if(shapes, [](const AttentionShape& s) {
    return s.num_heads % s.num_kv_heads != 0 || s.shared_prefix + s.q_len > s.kv_len;
  });
  return shapes;
}

Expected<std::vector<attention::HeadDims>> parse_head_dims(std::string_view text) {
  std::vector<attention::HeadDims> dims;
  BIFOCAL_RETURN_IF_ERROR(for_parts(text, [&](std::string_view part) -> Status {
    const size_t slash = part.find('/');
    if (slash == std::string_view::npos) {
      BIFOCAL_ASSIGN_OR_RETURN(const auto values, parse_grid(part));
      for (const int value : values) dims.push_back({value, value});
      return {};
    }
    BIFOCAL_ASSIGN_OR_RETURN(const auto k, parse_grid(part.substr(0, slash)));
    BIFOCAL_ASSIGN_OR_RETURN(const auto v, parse_grid(part.substr(slash + 1)));
    if (k.size() != 1 || v.size() != 1) {
      return invalid_argument(fmt::format("\"{}\" is no pair; expected for example 192/128", part));
    }
    dims.push_back({k[0], v[0]});
    return {};
  }));
  return dims;
}

Expected<std::vector<DType>> parse_dtypes(std::string_view text) {
  std::vector<DType> dtypes;
  BIFOCAL_RETURN_IF_ERROR(for_parts(text, [&](std::string_view part) -> Status {
    BIFOCAL_ASSIGN_OR_RETURN(const DType dtype, parse_dtype(part));
    dtypes.push_back(dtype);
    return {};
  }));
  return dtypes;
}

Table to_table(std::span<const AttentionBenchRow> rows) {
  Table table;
  table.columns = {"heads",       "kv heads",  "dim k",  "dim v",   "batch",        "query len",
                   "kv len",      "shared",    "page",   "window",  "dtype",        "backend",
                   "median us",   "plan us",   "GB/s",   "GFLOP/s", "of DRAM rate", "of page rate",
                   "of FMA peak", "max error", "fastest"};
  for (const AttentionBenchRow& row : rows) {
    const AttentionShape& s = row.shape;
    std::vector<std::string> cells;
    for (const int value : {s.num_heads, s.num_kv_heads, s.head_dim_k, s.head_dim_v, s.batch, s.q_len,
                            s.kv_len, s.shared_prefix, s.page_size, s.window}) {
      cells.push_back(fmt::format("{}", value));
    }
    cells.emplace_back(to_string(s.dtype));
    cells.push_back(row.backend);
    cells.push_back(fmt::format("{:.1f}", row.median_s * 1e6));
    cells.push_back(fmt::format("{:.1f}", row.plan_s * 1e6));
    cells.push_back(fmt::format("{:.2f}", row.bytes_per_s * 1e-9));
    cells.push_back(fmt::format("{:.1f}", row.flops * 1e-9));
    cells.push_back(fmt::format("{:.2f}", row.read_fraction));
    cells.push_back(fmt::format("{:.2f}", row.page_fraction));
    cells.push_back(fmt::format("{:.2f}", row.flops_fraction));
    cells.push_back(row.max_error < 0 ? "-" : fmt::format("{:.1e}", row.max_error));
    cells.emplace_back(row.fastest ? "yes" : "");
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::vector<PlotPanel> crossover_panels(std::span<const AttentionBenchRow> rows) {
  std::vector<PlotPanel> panels;
  for (const AttentionBenchRow& row : rows) {
    const std::string title = panel_title(row.shape);
    auto panel = std::find_if(panels.begin(), panels.end(), [&](const auto& p) { return p.title == title; });
    if (panel == panels.end()) {
      panel = panels.insert(panels.end(), {title, "query tokens per sequence", "us per layer", {}});
    }
    auto& lines = panel->lines;
    auto line =
        std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.name == row.backend; });
    if (line == lines.end()) line = lines.insert(lines.end(), {row.backend, {}});
    line->points.emplace_back(row.shape.q_len, row.median_s * 1e6);
  }
  std::erase_if(panels, [](const PlotPanel& panel) { return panel.lines.front().points.size() < 2; });
  return panels;
}

Table to_table(std::span<const PlanBenchRow> rows) {
  Table table;
  table.columns = {"backend", "sequences", "keys", "median us", "best us"};
  for (const PlanBenchRow& row : rows) {
    table.rows.push_back({row.backend, fmt::format("{}", row.num_seqs), fmt::format("{}", row.num_keys),
                          fmt::format("{:.1f}", row.median_s * 1e6),
                          fmt::format("{:.1f}", row.best_s * 1e6)});
  }
  return table;
}

}  // namespace bifocal::bench
