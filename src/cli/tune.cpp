// bifocal tune: which kernel serves each matrix product fastest.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "bench/table.h"
#include "cli/bench_support.h"
#include "cli/command.h"
#include "cli/stack.h"

namespace bifocal::cli {
namespace {

Expected<std::vector<int>> rows_of(const std::string& list) {
  BIFOCAL_ASSIGN_OR_RETURN(std::vector<int> rows, grid("--rows", list));
  constexpr int kMost = 1 << 16;
  if (rows.empty()) return invalid_argument("--rows: expected at least one number");
  for (int& m : rows) {
    if (m < 1 || m > kMost) {
      return invalid_argument(fmt::format("--rows: expected 1 to {}, got {}", kMost, m));
    }
    m = kernels::cuda::linear_bucket(m);
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

bench::Table to_table(const std::vector<model::LinearTuneRow>& rows) {
  bench::Table table{
      {"product", "M", "N", "K", "sums", "ours us", "cuBLASLt's first us", "fastest us", "fastest"}, {}};
  const auto us = [](double value) { return value > 0.0 ? fmt::format("{:.1f}", value) : std::string("-"); };
  for (const model::LinearTuneRow& row : rows) {
    table.rows.push_back({row.name, fmt::format("{}", row.shape.m_bucket), fmt::format("{}", row.shape.n),
                          fmt::format("{}", row.shape.k), row.shape.in_order ? "in order" : "any",
                          us(row.skinny_us), us(row.first_us), us(row.best_us), row.best});
  }
  return table;
}

}  // namespace

Status run_tune(const Settings& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::vector<int> rows, rows_of(settings.tune.rows));
  BIFOCAL_ASSIGN_OR_RETURN(auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, std::move(pool)));
  if (choice.options.device != DeviceKind::cuda) {
    fmt::print(
        "{} runs on the CPU here, where one kernel serves each matrix product: there is nothing to choose. "
        "tune chooses a GPU's (--device cuda).\n",
        choice.options.path);
    return {};
  }
  BIFOCAL_ASSIGN_OR_RETURN(const model::LinearTuning tuning,
                           model::tune_cuda_linears(choice.plan.spec, rows));
  BIFOCAL_RETURN_IF_ERROR(print_table(to_table(tuning.rows), "md"));
  BIFOCAL_RETURN_IF_ERROR(write_file_atomically(settings.tune.output_file, to_json(tuning.table)));
  fmt::print(
      "\nSums \"in order\": what --deterministic takes, along the whole of K in one order; it needs no "
      "choice up "
      "to 8 rows."
      "\nWritten to {}, measured on {}; bifocal serve --linear-table {} uses it.\n",
      settings.tune.output_file, tuning.table.device, settings.tune.output_file);
  return {};
}

}  // namespace bifocal::cli
