#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include "bench/arrivals.h"
#include "bench/offline.h"
#include "bench/primed_model.h"
#include "bench/serving_metrics.h"
#include "engine/engine_plan.h"

namespace bifocal::bench {
namespace {

constexpr int kMaxLen = 1 << 22;

int num_prompts(const CompareOptions& options, const CompareWorkload& workload) {
  return options.num_prompts > 0 ? options.num_prompts : 2 * workload.concurrency;
}

engine::EngineOptions engine_options(const CompareConfig& config, const CompareWorkload& workload) {
  engine::EngineOptions engine = config.engine;
  const int len = workload.input_len + workload.output_len;
  engine.max_total_tokens = int64_t{2} * workload.concurrency * (len + engine.page_size);  // nothing waits
  engine.kv_cache_bytes = 0;
  engine.context_length = len;
  engine.max_running_requests = workload.concurrency;
  engine.max_queued_requests = workload.concurrency;
  return engine;
}

// The same of every configuration; no two begin alike.
std::vector<WorkloadRequest> make_requests(const CompareWorkload& workload, int count, int vocab_size) {
  std::vector<WorkloadRequest> requests;
  for (int i = 0; i < count; ++i) {
    WorkloadRequest request;
    request.ids = random_tokens(static_cast<uint64_t>(i), workload.input_len, vocab_size);
    request.prompt_len = workload.input_len;
    request.output_len = workload.output_len;
    requests.push_back(std::move(request));
  }
  return requests;
}

// Of a new engine, so that no run finds what another left in the cache.
Expected<ServingMetrics> run_once(model::CpuModel& model, const CompareConfig& config,
                                  const CompareWorkload& workload,
                                  const std::vector<WorkloadRequest>& requests) {
  const engine::EngineOptions options = engine_options(config, workload);
  auto borrowed = std::make_unique<PrimedModel>(model, 0, 0, *options.pool);
  BIFOCAL_ASSIGN_OR_RETURN(const auto engine, engine::Engine::create(std::move(borrowed), nullptr, options));
  OfflineOptions offline;
  offline.max_concurrency = workload.concurrency;
  BIFOCAL_ASSIGN_OR_RETURN(const LoadResult result, run_offline(*engine, requests, offline));
  return serving_metrics(result.timelines, result.duration_s, nullptr);
}

CompareCell summarise_runs(const std::vector<ServingMetrics>& runs) {
  std::vector<double> rates, ttfts, itls;
  for (const ServingMetrics& run : runs) {
    rates.push_back(run.total_throughput);
    ttfts.push_back(run.ttft_ms.median);
    itls.push_back(run.itl_ms.mean);
  }
  return {summarise(std::move(rates)), summarise(std::move(ttfts)), summarise(std::move(itls)), false};
}

Expected<std::vector<CompareCell>> run_workload(model::CpuModel& model, const CompareOptions& options,
                                                const CompareWorkload& workload) {
  const auto requests = make_requests(workload, num_prompts(options, workload), model.spec().vocab_size);
  // Before anything is timed: the first request alone, of every configuration.
  for (const CompareConfig& config : options.configs) {
    BIFOCAL_RETURN_IF_ERROR(
        run_once(model, config, workload, {requests.front()}).status().with_context(config.name));
  }
  std::vector<std::vector<ServingMetrics>> runs(options.configs.size());
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    for (size_t c = 0; c < options.configs.size(); ++c) {
      BIFOCAL_ASSIGN_OR_RETURN(ServingMetrics metrics,
                               run_once(model, options.configs[c], workload, requests));
      runs[c].push_back(std::move(metrics));
      if (options.on_run) options.on_run();
    }
  }
  std::vector<CompareCell> cells;
  for (const auto& of_config : runs) cells.push_back(summarise_runs(of_config));
  std::max_element(cells.begin(), cells.end(), [](const CompareCell& a, const CompareCell& b) {
    return a.total_tokens_per_s.median < b.total_tokens_per_s.median;
  })->best = true;
  return cells;
}

std::string lengths_text(const CompareWorkload& workload) {
  return fmt::format("input/output={}/{}", workload.input_len, workload.output_len);
}

}  // namespace

Expected<CompareWorkload> parse_compare_workload(std::string_view text) {
  std::array<int, 3> numbers{};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto [stop, error] = std::from_chars(at, end, numbers[i]);
    const bool last = i + 1 == numbers.size();
    const bool sound = error == std::errc() && numbers[i] >= 1 && numbers[i] <= kMaxLen &&
                       (last ? stop == end : stop != end && *stop == '/');
    if (!sound) {
      return invalid_argument(fmt::format(
          "workload \"{}\": expected prompt tokens/output tokens/requests at a time, for example 256/32/8",
          text));
    }
    at = stop + (last ? 0 : 1);
  }
  return CompareWorkload{numbers[0], numbers[1], numbers[2]};
}

Expected<Comparison> run_compare(model::Model& model, const CompareOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(model::CpuModel* const cpu_model, require_cpu_model(model));
  int max_rows = 0;
  int max_logit_rows = 0;
  for (const CompareWorkload& workload : options.workloads) {
    for (const CompareConfig& config : options.configs) {
      const auto plan = engine::plan_engine(engine::outline_of(model), engine_options(config, workload));
      if (!plan.ok()) return plan.status().with_context(config.name);
      max_rows = std::max(max_rows, plan->limits.max_rows);
      max_logit_rows = std::max(max_logit_rows, plan->limits.max_logit_rows);
    }
  }
  BIFOCAL_RETURN_IF_ERROR(cpu_model->prepare(max_rows, max_logit_rows));
  Comparison comparison;
  for (const CompareConfig& config : options.configs) comparison.configs.push_back(config.name);
  comparison.workloads = options.workloads;
  for (const CompareWorkload& workload : options.workloads) {
    BIFOCAL_ASSIGN_OR_RETURN(auto cells, run_workload(*cpu_model, options, workload));
    comparison.cells.push_back(std::move(cells));
  }
  return comparison;
}

Table overview_table(const Comparison& comparison) {
  Table table;
  table.columns = {"total tokens/s"};
  table.columns.insert(table.columns.end(), comparison.configs.begin(), comparison.configs.end());
  for (size_t w = 0; w < comparison.workloads.size(); ++w) {
    const CompareWorkload& workload = comparison.workloads[w];
    std::vector<std::string> row = {
        fmt::format("concurrency={}, {}", workload.concurrency, lengths_text(workload))};
    for (const CompareCell& cell : comparison.cells[w]) {
      const std::string_view bold = cell.best ? "**" : "";
      row.push_back(fmt::format("{}{:.2f}{} ±{:.1f}%", bold, cell.total_tokens_per_s.median, bold,
                                50 * cell.total_tokens_per_s.spread));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table details_table(const Comparison& comparison) {
  Table table{{"input", "output", "concurrency", "configuration", "total tokens/s", "spread", "of best",
               "median TTFT ms", "mean ITL ms"},
              {}};
  for (size_t w = 0; w < comparison.workloads.size(); ++w) {
    const CompareWorkload& workload = comparison.workloads[w];
    const auto& cells = comparison.cells[w];
    const auto best =
        std::find_if(cells.begin(), cells.end(), [](const CompareCell& cell) { return cell.best; });
    for (size_t c = 0; c < cells.size(); ++c) {
      const CompareCell& cell = cells[c];
      table.rows.push_back(
          {fmt::format("{}", workload.input_len), fmt::format("{}", workload.output_len),
           fmt::format("{}", workload.concurrency), comparison.configs[c],
           fmt::format("{:.2f}", cell.total_tokens_per_s.median),
           fmt::format("{:.1f}%", 100 * cell.total_tokens_per_s.spread),
           fmt::format("{:.3f}", cell.total_tokens_per_s.median / best->total_tokens_per_s.median),
           fmt::format("{:.2f}", cell.ttft_ms.median), fmt::format("{:.2f}", cell.itl_ms.median)});
    }
  }
  return table;
}

std::vector<PlotPanel> compare_panels(const Comparison& comparison) {
  std::vector<PlotPanel> panels;
  for (size_t w = 0; w < comparison.workloads.size(); ++w) {
    const CompareWorkload& workload = comparison.workloads[w];
    const std::string title = lengths_text(workload);
    auto panel =
        std::find_if(panels.begin(), panels.end(), [&](const PlotPanel& p) { return p.title == title; });
    if (panel == panels.end()) {
      panels.push_back({title, "requests at a time", "total tokens/s", {}});
      panel = panels.end() - 1;
      for (const std::string& name : comparison.configs) panel->lines.push_back({name, {}});
    }
    for (size_t c = 0; c < comparison.configs.size(); ++c) {
      panel->lines[c].points.emplace_back(workload.concurrency,
                                          comparison.cells[w][c].total_tokens_per_s.median);
    }
  }
  for (PlotPanel& panel : panels) {
    for (PlotLine& line : panel.lines) std::sort(line.points.begin(), line.points.end());
  }
  return panels;
}

}  // namespace bifocal::bench
