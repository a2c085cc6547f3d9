#include "bench/conversations.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/clock.h"
#include "bench/arrivals.h"
#include "bench/primed_model.h"
#include "engine/engine_plan.h"

namespace bifocal::bench {
namespace {

struct Run {
  double answer_tokens_per_s = 0;
  double ttft_s = 0;
  double cached_fraction = 0;
};

engine::EngineOptions engine_options(const ConversationsOptions& options, const ConversationsShape& shape,
                                     bool deterministic) {
  engine::EngineOptions engine = options.engine;
  const int64_t len = int64_t{shape.num_turns} * (shape.user_len + shape.answer_len);
  engine.deterministic = deterministic;
  engine.max_total_tokens = 2 * shape.num_conversations * (len + engine.page_size);  // nothing is evicted
  engine.kv_cache_bytes = 0;
  engine.context_length = static_cast<int>(len);
  engine.max_running_requests = 2 * shape.num_conversations;  // bounds the pool as well
  engine.max_queued_requests = shape.num_conversations;
  engine.enable_prefix_cache = true;
  return engine;
}

Expected<Run> run_once(model::CpuModel& model, const ConversationsOptions& options,
                       const ConversationsShape& shape, bool deterministic) {
  const engine::EngineOptions engine_opts = engine_options(options, shape, deterministic);
  auto borrowed = std::make_unique<PrimedModel>(model, 0, 0, *engine_opts.pool);
  std::vector<std::unique_ptr<Arrivals>> turns;  // outlive the engine
  BIFOCAL_ASSIGN_OR_RETURN(const auto engine,
                           engine::Engine::create(std::move(borrowed), nullptr, engine_opts));
  const auto num = static_cast<size_t>(shape.num_conversations);
  std::vector<std::vector<int32_t>> texts(num);
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  double ttft_sum_s = 0;
  const int64_t start_ns = SteadyClock::instance().now_ns();
  for (int turn = 0; turn < shape.num_turns; ++turn) {
    turns.push_back(std::make_unique<Arrivals>(num));
    Arrivals& arrivals = *turns.back();
    const int64_t turn_start_ns = SteadyClock::instance().now_ns();
    for (size_t i = 0; i < num; ++i) {
      const auto user =
          random_tokens(num * static_cast<uint64_t>(turn) + i, shape.user_len, model.spec().vocab_size);
      texts[i].insert(texts[i].end(), user.begin(), user.end());
      prompt_tokens += static_cast<int64_t>(texts[i].size());
      BIFOCAL_RETURN_IF_ERROR(engine->submit(
          make_request(fmt::format("turn-{}-{}", turn, i), texts[i], shape.answer_len), arrivals.sink(i)));
    }
    BIFOCAL_RETURN_IF_ERROR(arrivals.wait_all_finished());
    const auto streams = arrivals.streams();
    for (size_t i = 0; i < num; ++i) {
      ttft_sum_s += static_cast<double>(streams[i].front().time_ns - turn_start_ns) * 1e-9;
      for (const TokenArrival& arrival : streams[i]) texts[i].push_back(arrival.token);
    }
    cached_tokens += arrivals.cached_tokens();
  }
  const double seconds = static_cast<double>(SteadyClock::instance().now_ns() - start_ns) * 1e-9;
  const double turns_of_all = static_cast<double>(num) * shape.num_turns;
  Run run;
  run.answer_tokens_per_s = turns_of_all * shape.answer_len / seconds;
  run.ttft_s = ttft_sum_s / turns_of_all;
  run.cached_fraction = static_cast<double>(cached_tokens) / static_cast<double>(prompt_tokens);
  return run;
}

}  // namespace

Expected<std::vector<ConversationsRow>> run_conversations(model::Model& any_model,
                                                          const ConversationsOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(model::CpuModel* const cpu_model, require_cpu_model(any_model));
  model::CpuModel& model = *cpu_model;
  int max_rows = 0;
  int max_logit_rows = 0;
  for (const ConversationsShape& shape : options.shapes) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto plan, engine::plan_engine(engine::outline_of(model),
                                                                  engine_options(options, shape, true)));
    max_rows = std::max(max_rows, plan.limits.max_rows);
    max_logit_rows = std::max(max_logit_rows, plan.limits.max_logit_rows);
  }
  BIFOCAL_RETURN_IF_ERROR(model.prepare(max_rows, max_logit_rows));
  std::vector<ConversationsRow> rows;
  for (const ConversationsShape& shape : options.shapes) {
    std::vector<Run> runs[2];
    for (int repeat = 0; repeat < options.repeats; ++repeat) {
      for (const bool deterministic : {false, true}) {
        BIFOCAL_ASSIGN_OR_RETURN(const Run run, run_once(model, options, shape, deterministic));
        runs[deterministic ? 1 : 0].push_back(run);
        if (options.on_run) options.on_run();
      }
    }
    for (const bool deterministic : {false, true}) {
      std::vector<double> rates, waits;
      for (const Run& run : runs[deterministic ? 1 : 0]) {
        rates.push_back(run.answer_tokens_per_s);
        waits.push_back(run.ttft_s);
      }
      ConversationsRow row;
      row.shape = shape;
      row.deterministic = deterministic;
      row.answer_tokens_per_s = summarise(std::move(rates));
      row.ttft_s = summarise(std::move(waits));
      row.cached_fraction = runs[deterministic ? 1 : 0].front().cached_fraction;
      rows.push_back(row);
    }
  }
  return rows;
}

Table to_table(const std::vector<ConversationsRow>& rows) {
  Table table{{"conversations", "turns", "user tokens", "answer tokens", "mode", "answer tokens/s",
               "of default", "spread", "mean TTFT ms", "prompt from cache"},
              {}};
  double base = 0;
  for (const ConversationsRow& row : rows) {
    if (!row.deterministic) base = row.answer_tokens_per_s.median;
    table.rows.push_back(
        {fmt::format("{}", row.shape.num_conversations), fmt::format("{}", row.shape.num_turns),
         fmt::format("{}", row.shape.user_len), fmt::format("{}", row.shape.answer_len),
         row.deterministic ? "--deterministic" : "default",
         fmt::format("{:.1f}", row.answer_tokens_per_s.median),
         fmt::format("{:.3f}", row.answer_tokens_per_s.median / base),
         fmt::format("{:.1f}%", 100 * row.answer_tokens_per_s.spread),
         fmt::format("{:.0f}", row.ttft_s.median * 1e3), fmt::format("{:.0f}%", 100 * row.cached_fraction)});
  }
  return table;
}

}  // namespace bifocal::bench
