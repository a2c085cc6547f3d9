#include "engine/engine_loop.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/trace.h"

namespace bifocal::engine {
namespace {

constexpr std::chrono::milliseconds kIdleTick{1000};  // an idle loop only shows that it is alive

kv::WindowLimits window_limits(const EngineParts& parts) {
  const int num_pages = parts.executor->num_window_pages();
  return num_pages == 0 ? kv::WindowLimits{}
                        : kv::WindowLimits{model::kv_window(parts.model->spec()), num_pages};
}

}  // namespace

EngineLoop::EngineLoop(EngineParts parts)
    : parts_(std::move(parts)),
      pool_(parts_.executor->num_pages(), parts_.executor->page_size(), window_limits(parts_)),
      tree_(pool_),
      scheduler_(parts_.scheduler, pool_, parts_.share_prefixes ? &tree_ : nullptr),
      runner_(*parts_.executor, parts_.limits, pool_.window()),
      sampler_(parts_.model->spec().vocab_size, parts_.pool->num_threads()),
      inbox_(parts_.max_queued) {
  publish_stats();
}

void EngineLoop::run() {
  trace::name_thread("engine");
  FinishReason reason = FinishReason::error;
  Status why;
  try {
    why = serve();
    if (why.ok()) {
      reason = FinishReason::abort;
      why = unavailable("the server is shutting down");
    }
  } catch (const std::bad_alloc&) {
    why = internal_error("the server ran out of memory");
  } catch (const std::exception& e) {
    why = internal_error(e.what());
  }
  if (reason == FinishReason::error) {
    failed_.store(true);
    log_error("the engine has failed: {}", why.message());
  }
  try {
    end_all(reason, why);
    publish_stats();
  } catch (const std::exception& e) {
    log_error("while ending the live requests: {}", e.what());
  }
}

Status EngineLoop::serve() {
  for (;;) {
    paused_ = paused_ || scheduler_.idle();
    mail_ = inbox_.take(scheduler_.idle() ? kIdleTick : std::chrono::milliseconds(0));
    if (mail_.stop) return {};
    read_mail();
    BIFOCAL_RETURN_IF_ERROR(run_step());
    publish_stats();
  }
}

// --- mail ---

void EngineLoop::read_mail() {
  for (auto& request : mail_.requests) begin(std::move(request));
  mail_.requests.clear();
  for (const RequestKey key : mail_.aborts) abort(key);
  for (auto& flush : mail_.flushes) {
    const bool idle = live_.empty();
    if (idle) tree_.clear();
    flush.set_value(idle ? Status() : resource_exhausted("requests are running; the cache can't be flushed"));
  }
  mail_.flushes.clear();
}

void EngineLoop::begin(std::unique_ptr<LiveRequest> request) {
  LiveRequest& live = *live_.emplace(request->key, std::move(request)).first->second;
  live.stages.enter(RequestStages::Stage::queued);
  const GenerateRequest& r = live.request;
  ScheduledRequest scheduled;
  scheduled.key = live.key;
  scheduled.cache_namespace = r.cache_namespace;
  scheduled.prompt = r.prompt_ids;
  scheduled.max_new_tokens = r.sampling.max_new_tokens;
  scheduled.num_choices = r.sampling.n;
  if (live.wants_prompt_logprobs()) {
    scheduled.logits_from =
        std::max<int64_t>(0, r.logprob_start_len - 1);  // a row scores the token behind it
    if (r.logprob_start_len == 0) live.prompt_logprobs.emplace_back();
  }
  scheduler_.submit(std::move(scheduled));
}

void EngineLoop::abort(RequestKey key) {
  const auto it = live_.find(key);
  if (it == live_.end()) return;  // it ended meanwhile
  scheduler_.cancel(key);
  end_choices(*it->second, FinishReason::abort, Status(StatusCode::cancelled, "the request was aborted"));
  sweep();
}

void EngineLoop::end_choices(LiveRequest& live, FinishReason reason, const Status& why) {
  (reason == FinishReason::error ? live.failed : live.aborted) = true;
  for (Choice& choice : live.choices) {
    if (!choice.finished()) send(live, choice.end(reason, why));
  }
}

void EngineLoop::end_all(FinishReason reason, const Status& why) {
  Mail rest = inbox_.close(
      reason == FinishReason::error ? unavailable("the engine has failed: " + why.message()) : why);
  for (Mail* mail : {&mail_, &rest}) {
    for (auto& flush : mail->flushes) flush.set_value(why);
    for (auto& request : mail->requests) {
      if (request != nullptr) end_choices(*request, reason, why);
    }
  }
  for (auto& [key, live] : live_) end_choices(*live, reason, why);
  live_.clear();
}

// --- events ---

void EngineLoop::send(LiveRequest& live, OutputEvent event) {
  event.prompt_tokens = live.prompt_len;
  event.cached_tokens = live.cached_tokens;
  if (event.choice == 0) event.prompt_logprobs = std::exchange(live.prompt_logprobs, {});
  if (event.finish != FinishReason::none && --live.open_choices == 0) {
    inbox_.forget(live.request.id);  // before its last event goes out
    live.stages.enter(RequestStages::Stage::over);
    ++(live.failed    ? counters_.failed_requests
       : live.aborted ? counters_.aborted_requests
                      : counters_.finished_requests);
  }
  if (!live.sink) return;
  try {
    live.sink(std::move(event));
  } catch (...) {
    live.sink = nullptr;
    log_error("request {}: its receiver failed; it is dropped", live.request.id);
  }
}

void EngineLoop::sweep() {
  for (auto it = live_.begin(); it != live_.end();) {
    LiveRequest& live = *(it++)->second;
    if (!live.sink && live.open_choices > 0) {
      scheduler_.cancel(live.key);
      end_choices(live, FinishReason::error, internal_error("its receiver failed"));
    }
    if (live.open_choices == 0) live_.erase(live.key);
  }
}

// --- stats ---

std::shared_ptr<const EngineStats> EngineLoop::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

void EngineLoop::publish_stats() {
  const int64_t now_ns = SteadyClock::instance().now_ns();
  constexpr int64_t kWindowNs = 1'000'000'000;
  if (now_ns - window_start_ns_ >= kWindowNs) {
    counters_.last_gen_throughput =
        static_cast<double>(window_tokens_) * 1e9 / static_cast<double>(now_ns - window_start_ns_);
    window_start_ns_ = now_ns;
    window_tokens_ = 0;
  }
  auto stats = std::make_shared<EngineStats>(counters_);
  stats->running_requests = scheduler_.num_running();
  stats->queued_requests = scheduler_.num_waiting();
  stats->total_pages = pool_.num_pages();
  stats->free_pages = pool_.free_pages();
  stats->cached_pages = pool_.cached_pages();
  if (const kv::WindowPages* window = pool_.window()) {
    stats->window_pages = window->num_pages();
    stats->free_window_pages = window->free_pages();
    stats->cached_window_pages = window->cached_pages();
  }
  stats->used_tokens = scheduler_.num_running_tokens();
  const SchedulerCounters& scheduled = scheduler_.counters();
  stats->prompt_tokens = scheduled.prompt_tokens;
  stats->cached_prompt_tokens = scheduled.cached_prompt_tokens;
  stats->retracted_requests = scheduled.retractions;
  stats->last_step_ns = now_ns;
  const model::Executor& executor = *parts_.executor;
  for (size_t c = 0; c < executor.classes().size(); ++c) {
    for (int p = 0; p < attention::kNumPhases; ++p) {
      const auto phase = static_cast<attention::Phase>(p);
      if (phase != attention::Phase::prefill && attention::is_expansion(executor.classes(), c)) continue;
      const attention::Decision& decision = executor.router().decide(c, phase);
      const attention::PhaseCounters& counters = executor.counters(c, phase);
      EngineStats::PhaseUse use;
      use.attention_class = to_string(executor.classes()[c]);
      use.phase = to_string(phase);
      use.backend = decision.backend->name();
      use.reason = decision.reason;
      use.steps = counters.steps;
      use.plans = counters.plans;
      use.rows = counters.rows;
      use.seconds = static_cast<double>(counters.run_ns) * 1e-9;
      stats->attention.push_back(std::move(use));
    }
  }
  std::lock_guard lock(stats_mutex_);
  stats_ = std::move(stats);
}

}  // namespace bifocal::engine
