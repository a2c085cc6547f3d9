// bifocal bench ceilings, gemm, attention: the machine's limits, and kernels beside them.
#include <fmt/format.h>

#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "bench/attention_bench.h"
#include "bench/ceilings.h"
#include "bench/gemm_bench.h"
#include "cli/bench_support.h"
#include "cli/command.h"
#include "cli/stack.h"

namespace bifocal::cli {

Status run_bench_ceilings(const Settings& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const bench::Ceilings limits, bench::measure_ceilings(*pool));
  const bench::Table table{{"limit", "value", "unit"},
                           {{"DRAM read", giga(limits.dram_read_bytes_per_s), "GB/s"},
                            {"copy (read + write)", giga(limits.copy_bytes_per_s), "GB/s"},
                            {"f32 FMA peak", giga(limits.f32_fma_flops), "GFLOP/s"},
                            {"bf16 peak", giga(limits.bf16_flops), "GFLOP/s"}}};
  fmt::print("{} threads, {} kernels\n\n", limits.threads, kernels::cpu::to_string(limits.isa));
  return print_table(table, "md");
}

Status run_bench_gemm(const Settings& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  const std::vector<bench::GemmShape> shapes = bench::default_gemm_shapes();
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::bench_gemm(shapes, *pool));
  bench::Table table{
      {"M", "N", "K", "weights", "µs", "GFLOP/s", "GB/s", "of DRAM read", "of type's peak", "of FMA peak"},
      {}};
  for (const auto& row : rows) {
    table.rows.push_back({fmt::format("{}", row.shape.m), fmt::format("{}", row.shape.n),
                          fmt::format("{}", row.shape.k), std::string(to_string(row.shape.dtype)),
                          fmt::format("{:.1f}", row.seconds * 1e6), giga(row.flops), giga(row.bytes_per_s),
                          fmt::format("{:.2f}", row.read_fraction), fmt::format("{:.2f}", row.flops_fraction),
                          fmt::format("{:.2f}", row.fma_fraction)});
  }
  fmt::print("{} threads, {} kernels\n\n", pool->num_threads(),
             kernels::cpu::to_string(kernels::cpu::current_isa()));
  return print_table(table, "md");
}

Status run_bench_attention(const Settings& settings) {
  const BenchSettings& s = settings.bench;
  bench::AttentionGrid shapes;
  BIFOCAL_ASSIGN_OR_RETURN(shapes.heads, grid("--heads", s.heads));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.kv_heads, grid("--kv-heads", s.kv_heads));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.dims, with_flag("--head-dim", bench::parse_head_dims(s.head_dim)));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.batch, grid("--batch", s.batch));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.q_len, grid("--query-len", s.query_len));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.kv_len, grid("--kv-len", s.kv_len));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.shared_prefix,
                           with_flag("--shared-prefix", bench::parse_grid(s.shared_prefix)));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.window, with_flag("--window", bench::parse_grid(s.window)));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.dtype, with_flag("--kv-dtype", bench::parse_dtypes(s.bench_dtype)));
  BIFOCAL_ASSIGN_OR_RETURN(shapes.page_size, grid("--page-size", s.page_sizes));
  shapes.random_pages = {s.page_order == "random"};
  const auto expanded = bench::expand(shapes);
  if (expanded.empty()) {
    return invalid_argument(
        "the grid is empty: --heads must be a multiple of --kv-heads, and --kv-len must hold --query-len and "
        "--shared-prefix");
  }

  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  bench::AttentionBenchOptions options;
  options.check = s.check;
  options.backends = s.backends;
  if (s.format == "md") {
    fmt::print("{} threads, {} kernels\n\n", pool->num_threads(),
               kernels::cpu::to_string(kernels::cpu::current_isa()));
  }
  if (s.plan_sequences > 0) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::bench_planning(static_cast<int>(s.plan_sequences),
                                                                    options, pool->num_threads()));
    return print_table(bench::to_table(rows), s.format);
  }
  std::optional<Progress> progress;
  size_t shown = 0;
  options.progress = [&](size_t done, size_t total, const std::string&) {
    if (!progress) progress.emplace("attention", total, "rows");
    progress->advance(done - shown);
    shown = done;
  };
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::bench_attention(expanded, options, *pool));
  progress.reset();
  if (!s.plot.empty()) {
    BIFOCAL_RETURN_IF_ERROR(write_file_atomically(s.plot, bench::render_svg(bench::crossover_panels(rows))));
  }
  return print_table(bench::to_table(rows), s.format);
}

}  // namespace bifocal::cli
