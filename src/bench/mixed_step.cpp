#include "bench/mixed_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/clock.h"
#include "base/int_math.h"
#include "bench/arrivals.h"
#include "bench/primed_model.h"
#include "engine/engine_plan.h"

namespace bifocal::bench {
namespace {

constexpr int64_t kWarmTokens = 3;    // of every decoding request, before the prompt arrives
constexpr int64_t kSlackTokens = 16;  // that a decoding request may write beyond what is expected

// What a decoding request may write: while the contexts come, to warm up, and beside the prompt.
int64_t decode_tokens(const MixedStepShape& shape, int chunk) {
  const int64_t context_steps = ceil_div(int64_t{shape.num_decodes} * shape.context_len, chunk);
  const int64_t prompt_steps = ceil_div(shape.prompt_len, chunk);
  return context_steps + kWarmTokens + prompt_steps + shape.output_len + kSlackTokens;
}

engine::EngineOptions engine_options(const MixedStepOptions& options, const MixedStepShape& shape) {
  engine::EngineOptions engine = options.engine;
  if (engine.chunked_prefill_size < 1) engine.chunked_prefill_size = shape.prompt_len;
  const int64_t decode_len = shape.context_len + decode_tokens(shape, engine.chunked_prefill_size);
  const int64_t prompt_len = int64_t{shape.prompt_len} + shape.output_len;
  const int64_t page = engine.page_size;
  engine.max_total_tokens = page * (shape.num_decodes * ceil_div(decode_len, page) +
                                    ceil_div(prompt_len, page) + shape.num_decodes);
  engine.kv_cache_bytes = 0;
  engine.context_length = static_cast<int>(std::max(decode_len, prompt_len));
  engine.max_running_requests = shape.num_decodes + 1;
  engine.max_queued_requests = shape.num_decodes + 1;
  engine.enable_prefix_cache = false;
  return engine;
}

double attention_seconds(const engine::EngineStats& stats, std::string_view phase) {
  double seconds = 0;
  for (const auto& use : stats.attention) seconds += use.phase == phase ? use.seconds : 0;
  return seconds;
}

struct Run {
  double tokens_per_s = 0, ttft_s = 0, itl_p50_s = 0, itl_p99_s = 0;
  double prefill_attention_s = 0, decode_attention_s = 0;
};

double percentile(std::vector<double>& values, double fraction) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(fraction * static_cast<double>(values.size() - 1) + 0.5);
  return values[rank];
}

Run measure(const std::vector<TokenStream>& streams, int64_t arrived_ns, int prompt_len) {
  const TokenStream& prompt = streams.back();
  const int64_t end_ns = prompt.back().time_ns;
  int64_t tokens = prompt_len;
  std::vector<double> gaps_s;
  for (const TokenStream& stream : streams) {
    for (size_t i = 0; i < stream.size(); ++i) {
      if (stream[i].time_ns <= arrived_ns || stream[i].time_ns > end_ns) continue;
      ++tokens;
      if (&stream == &prompt || i == 0) continue;
      gaps_s.push_back(static_cast<double>(stream[i].time_ns - stream[i - 1].time_ns) * 1e-9);
    }
  }
  Run run;
  run.tokens_per_s = static_cast<double>(tokens) * 1e9 / static_cast<double>(end_ns - arrived_ns);
  run.ttft_s = static_cast<double>(prompt.front().time_ns - arrived_ns) * 1e-9;
  run.itl_p50_s = percentile(gaps_s, 0.5);
  run.itl_p99_s = percentile(gaps_s, 0.99);
  return run;
}

Expected<Run> run_once(model::CpuModel& model, const MixedStepOptions& options, const MixedStepShape& shape,
                       const std::string& backends) {
  engine::EngineOptions engine_opts = engine_options(options, shape);
  engine_opts.attention.backend = backends;
  const int64_t context_rows = int64_t{shape.num_decodes} * shape.context_len;
  auto primed = std::make_unique<PrimedModel>(model, shape.context_len, context_rows, *engine_opts.pool);
  const auto num_decodes = static_cast<size_t>(shape.num_decodes);
  Arrivals arrivals(num_decodes + 1);  // outlives the engine
  BIFOCAL_ASSIGN_OR_RETURN(const auto engine,
                           engine::Engine::create(std::move(primed), nullptr, engine_opts));
  const auto request = [&](size_t index, int prompt_len, int64_t output_len) {
    return make_request(fmt::format("bench-{}", index),
                        random_tokens(index, prompt_len, model.spec().vocab_size), output_len);
  };
  const int64_t output_len = decode_tokens(shape, engine_opts.chunked_prefill_size);
  for (size_t i = 0; i < num_decodes; ++i) {
    BIFOCAL_RETURN_IF_ERROR(engine->submit(request(i, shape.context_len, output_len), arrivals.sink(i)));
  }
  // The last to be admitted has the fewest tokens: once it writes, the contexts are there.
  BIFOCAL_RETURN_IF_ERROR(arrivals.wait([&](const std::vector<TokenStream>& streams) {
    return std::all_of(streams.begin(), streams.end() - 1,
                       [](const auto& t) { return t.size() > static_cast<size_t>(kWarmTokens); });
  }));
  const auto before = engine->stats();
  const int64_t arrived_ns = SteadyClock::instance().now_ns();
  BIFOCAL_RETURN_IF_ERROR(
      engine->submit(request(num_decodes, shape.prompt_len, shape.output_len), arrivals.sink(num_decodes)));
  BIFOCAL_RETURN_IF_ERROR(arrivals.wait([&](const std::vector<TokenStream>& streams) {
    return streams.back().size() == static_cast<size_t>(shape.output_len);
  }));
  engine->abort_all();
  BIFOCAL_RETURN_IF_ERROR(arrivals.wait_all_finished());
  const auto after = engine->stats();
  if (after->retracted_requests > 0) return internal_error("the benchmark's KV pool is too small");
  Run run = measure(arrivals.streams(), arrived_ns, shape.prompt_len);
  run.prefill_attention_s = attention_seconds(*after, "prefill") - attention_seconds(*before, "prefill");
  run.decode_attention_s = attention_seconds(*after, "decode") - attention_seconds(*before, "decode");
  return run;
}

MixedStepRow summarise_runs(const MixedStepShape& shape, const std::string& backends,
                            const std::vector<Run>& runs) {
  const auto of = [&](double Run::*member) {
    std::vector<double> values;
    for (const Run& run : runs) values.push_back(run.*member);
    return summarise(std::move(values));
  };
  MixedStepRow row;
  row.shape = shape;
  row.backends = backends;
  row.tokens_per_s = of(&Run::tokens_per_s);
  row.ttft_s = of(&Run::ttft_s);
  row.itl_p50_s = of(&Run::itl_p50_s);
  row.itl_p99_s = of(&Run::itl_p99_s);
  row.prefill_attention_s = of(&Run::prefill_attention_s);
  row.decode_attention_s = of(&Run::decode_attention_s);
  return row;
}

}  // namespace

Expected<std::vector<MixedStepRow>> run_mixed_step(model::Model& any_model, const MixedStepOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(model::CpuModel* const cpu_model, require_cpu_model(any_model));
  model::CpuModel& model = *cpu_model;
  std::vector<MixedStepRow> rows;
  int max_rows = 0;
  int max_logit_rows = 0;
  for (const MixedStepShape& shape : options.shapes) {
    const engine::EngineOptions engine_opts = engine_options(options, shape);
    BIFOCAL_ASSIGN_OR_RETURN(const auto plan, engine::plan_engine(engine::outline_of(model), engine_opts));
    max_rows = std::max(max_rows, plan.limits.max_rows);
    max_logit_rows = std::max(max_logit_rows, plan.limits.max_logit_rows);
  }
  BIFOCAL_RETURN_IF_ERROR(model.prepare(max_rows, max_logit_rows));
  for (const MixedStepShape& shape : options.shapes) {
    std::vector<std::vector<Run>> runs(options.backends.size());
    for (int repeat = 0; repeat < options.repeats; ++repeat) {
      for (size_t b = 0; b < options.backends.size(); ++b) {
        BIFOCAL_ASSIGN_OR_RETURN(const Run run, run_once(model, options, shape, options.backends[b]));
        runs[b].push_back(run);
        if (options.on_run) options.on_run();
      }
    }
    const size_t first = rows.size();
    for (size_t b = 0; b < options.backends.size(); ++b) {
      rows.push_back(summarise_runs(shape, options.backends[b], runs[b]));
    }
    std::max_element(
        rows.begin() + static_cast<ptrdiff_t>(first), rows.end(),
        [](const auto& a, const auto& b) { return a.tokens_per_s.median < b.tokens_per_s.median; })
        ->best = true;
  }
  return rows;
}

Table to_table(const std::vector<MixedStepRow>& rows, bool markdown) {
  Table table{{"prompt", "decodes", "context", "attention", "total tokens/s", "of best", "spread", "TTFT s",
               "ITL p50 ms", "ITL p99 ms", "prefill attention s", "decode attention s"},
              {}};
  for (const MixedStepRow& row : rows) {
    double best = 0;
    for (const MixedStepRow& other : rows) {
      const MixedStepShape& a = row.shape;
      const MixedStepShape& b = other.shape;
      const bool same = a.num_decodes == b.num_decodes && a.context_len == b.context_len &&
                        a.prompt_len == b.prompt_len && a.output_len == b.output_len;
      if (same) best = std::max(best, other.tokens_per_s.median);
    }
    const std::string_view bold = markdown && row.best ? "**" : "";
    table.rows.push_back(
        {fmt::format("{}", row.shape.prompt_len), fmt::format("{}", row.shape.num_decodes),
         fmt::format("{}", row.shape.context_len), row.backends,
         fmt::format("{}{:.1f}{}", bold, row.tokens_per_s.median, bold),
         fmt::format("{:.3f}", row.tokens_per_s.median / best),
         fmt::format("{:.1f}%", 100 * row.tokens_per_s.spread), fmt::format("{:.2f}", row.ttft_s.median),
         fmt::format("{:.1f}", row.itl_p50_s.median * 1e3), fmt::format("{:.1f}", row.itl_p99_s.median * 1e3),
         fmt::format("{:.2f}", row.prefill_attention_s.median),
         fmt::format("{:.2f}", row.decode_attention_s.median)});
  }
  return table;
}

}  // namespace bifocal::bench
