// bifocal bench: figures beside this machine's limits.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "bench/attention_bench.h"
#include "bench/ceilings.h"
#include "bench/conversations.h"
#include "bench/gemm_bench.h"
#include "bench/mixed_step.h"
#include "bench/one_batch.h"
#include "bench/table.h"
#include "cli/command.h"
#include "cli/stack.h"

namespace bifocal::cli {
namespace {

std::string giga(double value) {
  return fmt::format("{:.1f}", value * 1e-9);
}
std::string ratio(double value, double limit) {
  return limit > 0 ? fmt::format("{:.2f}", value / limit) : "";
}

Status print_table(const bench::Table& table, const std::string& format) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, bench::render(table, format));
  fmt::print("{}", text);
  return {};
}

std::string machine_line(const bench::Ceilings& limits) {
  return fmt::format(
      "{} threads, {} kernels: DRAM read {} GB/s, copy {} GB/s, f32 FMA peak {} GFLOP/s, bf16 peak {} "
      "GFLOP/s",
      limits.threads, kernels::cpu::to_string(limits.isa), giga(limits.dram_read_bytes_per_s),
      giga(limits.copy_bytes_per_s), giga(limits.f32_fma_flops), giga(limits.bf16_flops));
}

// The larger of two measurements of the same limit: whatever else runs only makes it smaller.
bench::Ceilings best_of(const bench::Ceilings& a, const bench::Ceilings& b) {
  bench::Ceilings best = a;
  best.dram_read_bytes_per_s = std::max(a.dram_read_bytes_per_s, b.dram_read_bytes_per_s);
  best.copy_bytes_per_s = std::max(a.copy_bytes_per_s, b.copy_bytes_per_s);
  best.f32_fma_flops = std::max(a.f32_fma_flops, b.f32_fma_flops);
  best.bf16_flops = std::max(a.bf16_flops, b.bf16_flops);
  return best;
}

Expected<std::vector<int>> grid(std::string_view flag, const std::string& text) {
  auto values = bench::parse_grid(text);
  if (!values.ok()) return values.status().with_context(flag);
  if (std::find(values->begin(), values->end(), 0) != values->end()) {
    return invalid_argument(fmt::format("{}: got 0, expected 1 or more", flag));
  }
  return values;
}

template <class T>
Expected<T> with_flag(std::string_view flag, Expected<T> value) {
  if (!value.ok()) return value.status().with_context(flag);
  return value;
}

}  // namespace

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
  shapes.ordered_pages = {s.ordered_pages};
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

Status run_bench_one_batch(const Settings& settings) {
  bench::OneBatchOptions options;
  BIFOCAL_ASSIGN_OR_RETURN(const auto batches, grid("--batch", settings.bench.batch));
  BIFOCAL_ASSIGN_OR_RETURN(const auto inputs, grid("--input-len", settings.bench.input_len));
  BIFOCAL_ASSIGN_OR_RETURN(const auto outputs, grid("--output-len", settings.bench.output_len));
  for (const int batch : batches) {
    for (const int input : inputs) {
      for (const int output : outputs) options.shapes.push_back({batch, input, output});
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, pool));
  BIFOCAL_ASSIGN_OR_RETURN(const model::LoadedModel loaded, model::load_model(choice.options));
  options.attention = router_options(settings.engine);
  options.weight_dtype = choice.plan.dtype;
  options.kv_dtype = choice.options.kv_dtype;
  options.page_size = choice.options.page_size;
  if (settings.engine.chunked_prefill_size > 0) {
    options.chunked_prefill_size = static_cast<int>(settings.engine.chunked_prefill_size);
  }

  // The limits are measured before and after, so that a machine that is busy for a while flatters nothing.
  BIFOCAL_ASSIGN_OR_RETURN(const bench::Ceilings before, bench::measure_ceilings(*pool));
  std::vector<bench::OneBatchRow> rows;
  {
    Progress progress("one-batch", options.shapes.size(), "shapes");
    BIFOCAL_RETURN_IF_ERROR(
        bench::run_one_batch(*loaded.model, options, *pool, [&](const bench::OneBatchRow& row) {
          rows.push_back(row);
          progress.advance(1);
        }));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const bench::Ceilings after, bench::measure_ceilings(*pool));
  const bench::Ceilings limits = best_of(before, after);

  bench::Table table{
      {"batch", "input", "output", "prefill tokens/s", "GFLOP/s", "of FMA peak", "of bf16 peak",
       "decode tokens/s", "step ms", "GB/s", "of DRAM read", "prefill by", "decode by"},
      {}};
  for (const auto& row : rows) {
    table.rows.push_back(
        {fmt::format("{}", row.shape.batch), fmt::format("{}", row.shape.input_len),
         fmt::format("{}", row.shape.output_len), fmt::format("{:.1f}", row.prefill_tokens_per_s),
         giga(row.prefill_flops_per_s), ratio(row.prefill_flops_per_s, limits.f32_fma_flops),
         ratio(row.prefill_flops_per_s, limits.bf16_flops), fmt::format("{:.2f}", row.decode_tokens_per_s),
         fmt::format("{:.2f}", row.decode_median_s * 1e3), giga(row.decode_bytes_per_s),
         ratio(row.decode_bytes_per_s, row.dram_read_bytes_per_s), row.prefill_backend, row.decode_backend});
  }
  if (settings.bench.format == "md") fmt::print("{}\n\n", machine_line(limits));
  return print_table(table, settings.bench.format);
}

Status run_bench_mixed(const Settings& settings) {
  const BenchSettings& s = settings.bench;
  BIFOCAL_ASSIGN_OR_RETURN(const auto decodes, grid("--decodes", s.decodes));
  BIFOCAL_ASSIGN_OR_RETURN(const auto contexts, grid("--context-len", s.context_len));
  BIFOCAL_ASSIGN_OR_RETURN(const auto prompts, grid("--prompt-len", s.prompt_len));
  bench::MixedStepOptions options;
  options.repeats = static_cast<int>(s.mixed_repeats);
  options.backends = s.backend_pairs;
  for (std::string& pair : options.backends) std::replace(pair.begin(), pair.end(), '+', ',');
  for (const int num_decodes : decodes) {
    for (const int context_len : contexts) {
      for (const int prompt_len : prompts) {
        options.shapes.push_back(
            {num_decodes, context_len, prompt_len, static_cast<int>(s.mixed_output_len)});
      }
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, pool));
  BIFOCAL_ASSIGN_OR_RETURN(options.engine, engine_options_of(settings, choice));
  BIFOCAL_ASSIGN_OR_RETURN(const model::LoadedModel loaded, model::load_model(choice.options));
  Progress progress("mixed",
                    options.shapes.size() * options.backends.size() * static_cast<size_t>(s.mixed_repeats),
                    "runs");
  options.on_run = [&progress] { progress.advance(1); };
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::run_mixed_step(*loaded.model, options));
  progress.finish();
  if (s.format == "md") {
    fmt::print("{} threads, {} kernels, chunks of {} tokens, {} runs each\n\n", pool->num_threads(),
               kernels::cpu::to_string(kernels::cpu::current_isa()), settings.engine.chunked_prefill_size,
               s.mixed_repeats);
  }
  return print_table(bench::to_table(rows, s.format == "md"), s.format);
}

Status run_bench_conversations(const Settings& settings) {
  const BenchSettings& s = settings.bench;
  BIFOCAL_ASSIGN_OR_RETURN(const auto counts, grid("--conversations", s.conversations));
  BIFOCAL_ASSIGN_OR_RETURN(const auto turns, grid("--turns", s.turns));
  bench::ConversationsOptions options;
  options.repeats = static_cast<int>(s.mixed_repeats);
  for (const int count : counts) {
    for (const int num_turns : turns) {
      options.shapes.push_back(
          {count, num_turns, static_cast<int>(s.user_len), static_cast<int>(s.answer_len)});
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, pool));
  BIFOCAL_ASSIGN_OR_RETURN(options.engine, engine_options_of(settings, choice));
  BIFOCAL_ASSIGN_OR_RETURN(const model::LoadedModel loaded, model::load_model(choice.options));
  Progress progress("conversations", 2 * options.shapes.size() * static_cast<size_t>(s.mixed_repeats),
                    "runs");
  options.on_run = [&progress] { progress.advance(1); };
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::run_conversations(*loaded.model, options));
  progress.finish();
  if (s.format == "md") {
    fmt::print("{} threads, {} kernels, {} runs each\n\n", pool->num_threads(),
               kernels::cpu::to_string(kernels::cpu::current_isa()), s.mixed_repeats);
  }
  return print_table(bench::to_table(rows), s.format);
}

}  // namespace bifocal::cli
