// bifocal bench one-batch, mixed, conversations: a model in this process, without a server.
#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "bench/ceilings.h"
#include "bench/conversations.h"
#include "bench/mixed_step.h"
#include "bench/one_batch.h"
#include "cli/bench_support.h"
#include "cli/command.h"
#include "cli/stack.h"

namespace bifocal::cli {
namespace {

std::string ratio(double value, double limit) {
  return limit > 0 ? fmt::format("{:.2f}", value / limit) : "";
}

struct BenchModel {
  std::shared_ptr<ThreadPool> pool;
  ModelChoice choice;
  std::unique_ptr<model::Model> model;
};
Expected<BenchModel> load_bench_model(const Settings& settings) {
  BenchModel out;
  BIFOCAL_ASSIGN_OR_RETURN(out.pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(out.choice, choose_model(settings, out.pool));
  BIFOCAL_ASSIGN_OR_RETURN(model::LoadedModel loaded, model::load_model(out.choice.options));
  out.model = std::move(loaded.model);
  return out;
}

std::string compute_line(const ThreadPool& pool) {
  return fmt::format("{} threads, {} kernels", pool.num_threads(),
                     kernels::cpu::to_string(kernels::cpu::current_isa()));
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

Status print_breakdown(const std::vector<bench::OneBatchRow>& rows, const bench::Ceilings& limits,
                       const bench::OneBatchOptions& options, const std::string& format) {
  std::vector<bench::BreakdownRow> out;
  for (const auto& row : rows) {
    for (const auto& breakdown : row.breakdowns) {
      const double dram =
          row.dram_read_bytes_per_s > 0 ? row.dram_read_bytes_per_s : limits.dram_read_bytes_per_s;
      out.push_back({row.shape.batch, row.shape.input_len, breakdown, dram});
    }
  }
  if (format == "md") {
    fmt::print("{}\n\n", machine_line(limits));
    for (const auto& row : out) {
      const bench::Breakdown& b = row.breakdown;
      fmt::print("{} of {} x {}: {} steps traced, which took {:.3f} times as long as untraced ones{}\n",
                 b.phase, row.batch, row.input_len, b.steps, b.traced_s / b.untraced_s,
                 b.dropped > 0 ? fmt::format("; {} spans were dropped", b.dropped) : "");
    }
    fmt::print("\n");
  }
  const bool bf16_attention = options.kv_dtype == DType::bf16 && limits.isa == kernels::cpu::Isa::amx;
  return print_table(bench::to_table(out, limits, bf16_attention), format);
}

}  // namespace

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
  BIFOCAL_ASSIGN_OR_RETURN(const BenchModel loaded, load_bench_model(settings));
  const auto& [pool, choice, model] = loaded;
  options.attention = router_options(settings.engine, choice.options.device);
  options.weight_dtype = choice.plan.dtype;
  options.kv_dtype = choice.options.kv_dtype;
  options.page_size = choice.options.page_size;
  options.overlap_schedule = !settings.engine.disable_overlap_schedule;
  if (settings.bench.breakdown) options.breakdown_repeats = static_cast<int>(settings.bench.repeats);
  if (settings.engine.chunked_prefill_size > 0) {
    options.chunked_prefill_size = static_cast<int>(settings.engine.chunked_prefill_size);
  }

  // The limits are measured before and after, so that a machine that is busy for a while flatters nothing.
  const bool on_cpu = model->on_cpu() != nullptr;
  bench::Ceilings before;
  if (on_cpu) {
    BIFOCAL_ASSIGN_OR_RETURN(before, bench::measure_ceilings(*pool));
  }
  std::vector<bench::OneBatchRow> rows;
  {
    Progress progress("one-batch", options.shapes.size(), "shapes");
    BIFOCAL_RETURN_IF_ERROR(bench::run_one_batch(*model, options, *pool, [&](const bench::OneBatchRow& row) {
      rows.push_back(row);
      progress.advance(1);
    }));
  }
  bench::Ceilings limits = before;
  if (on_cpu) {
    BIFOCAL_ASSIGN_OR_RETURN(const bench::Ceilings after, bench::measure_ceilings(*pool));
    limits = best_of(before, after);
  }

  if (settings.bench.breakdown) return print_breakdown(rows, limits, options, settings.bench.format);
  bench::Table table{
      {"batch", "input", "output", "prefill tokens/s", "GFLOP/s", "of FMA peak", "of bf16 peak",
       "decode tokens/s", "step ms", "GPU idle us", "GB/s", "of DRAM read", "prefill by", "decode by"},
      {}};
  for (const auto& row : rows) {
    table.rows.push_back(
        {fmt::format("{}", row.shape.batch), fmt::format("{}", row.shape.input_len),
         fmt::format("{}", row.shape.output_len), fmt::format("{:.1f}", row.prefill_tokens_per_s),
         giga(row.prefill_flops_per_s), ratio(row.prefill_flops_per_s, limits.f32_fma_flops),
         ratio(row.prefill_flops_per_s, limits.bf16_flops), fmt::format("{:.2f}", row.decode_tokens_per_s),
         fmt::format("{:.2f}", row.decode_median_s * 1e3),
         row.idle_median_s ? fmt::format("{:.1f}", *row.idle_median_s * 1e6) : "-",
         giga(row.decode_bytes_per_s), ratio(row.decode_bytes_per_s, row.dram_read_bytes_per_s),
         row.prefill_backend, row.decode_backend});
  }
  if (settings.bench.format == "md" && on_cpu) fmt::print("{}\n\n", machine_line(limits));
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
  BIFOCAL_ASSIGN_OR_RETURN(const BenchModel loaded, load_bench_model(settings));
  const auto& [pool, choice, model] = loaded;
  BIFOCAL_ASSIGN_OR_RETURN(options.engine, engine_options_of(settings, choice));
  Progress progress("mixed",
                    options.shapes.size() * options.backends.size() * static_cast<size_t>(s.mixed_repeats),
                    "runs");
  options.on_run = [&progress] { progress.advance(1); };
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::run_mixed_step(*model, options));
  progress.finish();
  if (s.format == "md") {
    fmt::print("{}, chunks of {} tokens, {} runs each\n\n", compute_line(*pool),
               settings.engine.chunked_prefill_size, s.mixed_repeats);
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
  BIFOCAL_ASSIGN_OR_RETURN(const BenchModel loaded, load_bench_model(settings));
  const auto& [pool, choice, model] = loaded;
  BIFOCAL_ASSIGN_OR_RETURN(options.engine, engine_options_of(settings, choice));
  Progress progress("conversations", 2 * options.shapes.size() * static_cast<size_t>(s.mixed_repeats),
                    "runs");
  options.on_run = [&progress] { progress.advance(1); };
  BIFOCAL_ASSIGN_OR_RETURN(const auto rows, bench::run_conversations(*model, options));
  progress.finish();
  if (s.format == "md") {
    fmt::print("{}, {} runs each\n\n", compute_line(*pool), s.mixed_repeats);
  }
  return print_table(bench::to_table(rows), s.format);
}

}  // namespace bifocal::cli
