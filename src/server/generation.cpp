#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/ids.h"
#include "server/request_fields.h"

namespace bifocal::server {
namespace {

int64_t now_ns() {
  return SteadyClock::instance().now_ns();
}
double seconds(int64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

std::string_view finish_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::none:
      return "none";
    case engine::FinishReason::stop:
      return "stop";
    case engine::FinishReason::length:
      return "length";
    case engine::FinishReason::abort:
      return "abort";
    case engine::FinishReason::error:
      return "error";
  }
  return "unknown";
}

void merge(engine::OutputEvent& into, engine::OutputEvent from) {
  into.tokens.insert(into.tokens.end(), std::make_move_iterator(from.tokens.begin()),
                     std::make_move_iterator(from.tokens.end()));
  into.text += from.text;
  into.finish = from.finish;
  into.matched_token = from.matched_token;
  into.matched_string = std::move(from.matched_string);
  into.error = std::move(from.error);
  if (into.prompt_logprobs.empty()) into.prompt_logprobs = std::move(from.prompt_logprobs);
  into.prompt_tokens = from.prompt_tokens;
  into.completion_tokens = from.completion_tokens;
  into.cached_tokens = from.cached_tokens;
}

uint64_t fresh_seed(Services& services, const engine::Engine& engine) {
  if (engine.options().deterministic) return engine::SamplingParams().seed;
  if (!services.options.random_seed) return random_u64();
  return hash_combine(*services.options.random_seed, services.num_seeds.fetch_add(1));
}

}  // namespace

void handle_generation(const Call& call, GenerationPlanner planner) {
  const auto document = parse_body(call);
  if (!document.ok()) return call.fail(document.status());
  const auto body = JsonReader::open(*document);
  if (!body.ok()) return call.fail(body.status());
  auto plan = planner(*body, call);
  if (!plan.ok()) return call.fail(plan.status());
  Generation::start(call, std::move(*plan));
}

Generation::Generation(const Call& call, GenerationPlan plan)
    : call_(call), plan_(std::move(plan)), started_ns_(now_ns()) {
  for (size_t i = 0; i < plan_.requests.size(); ++i) {
    const auto n = static_cast<size_t>(plan_.requests[i].sampling.n);
    last_token_ns_.emplace_back(n, 0);
    choices_left_ += n;
    engine_ids_.push_back(fmt::format("{}_{}", call_.exchange->id(), i));
  }
  totals_.resize(plan_.requests.size());
}

void Generation::start(const Call& call, GenerationPlan plan) {
  engine::Engine& engine = *call.context->engine;
  const int64_t context_length = engine.context_length();
  for (size_t i = 0; i < plan.requests.size(); ++i) {
    engine::GenerateRequest& request = plan.requests[i];
    const auto prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
    if (prompt_tokens == 0) return call.fail(bad_request("", "the prompt is empty"));
    if (prompt_tokens >= context_length)
      return call.fail(context_length_error(prompt_tokens, context_length));
    // More than fits can't be generated: the output ends with finish_reason "length" instead.
    request.sampling.max_new_tokens =
        std::min(request.sampling.max_new_tokens, context_length - prompt_tokens);
    request.sampling.min_new_tokens =
        std::min(request.sampling.min_new_tokens, request.sampling.max_new_tokens);
    if (!plan.seed_given[i]) request.sampling.seed = fresh_seed(*call.services, engine);
  }
  const auto deadline =
      call.exchange->started() + std::chrono::milliseconds(static_cast<int64_t>(plan.timeout_s * 1e3));
  const bool stream = plan.stream;
  auto generation = std::make_shared<Generation>(call, std::move(plan));
  if (!call.services->live.add(generation->plan_.names, call.exchange->request().client, generation)) {
    return call.fail(bad_request("rid", "a request with this id is under way"));
  }
  if (stream) call.exchange->begin_stream();
  call.exchange->on_disconnect([generation] { generation->on_disconnect(); });
  call.exchange->on_writable([generation] { generation->schedule_if_pending(); });
  call.exchange->on_deadline(
      deadline, [generation] { generation->cut(AbortReason::deadline, generation->plan_.timeout_error); });
  if (generation->submit_all()) call.services->metrics.request_started(stream);
}

ApiError Generation::refusal_of(const Status& status) const {
  Metrics& metrics = call_.services->metrics;
  if (status.code() != StatusCode::resource_exhausted) {
    metrics.rejected(status.code() == StatusCode::unavailable ? RejectReason::not_ready
                                                              : RejectReason::invalid);
    return to_api_error(status);
  }
  metrics.rejected(RejectReason::queue_full);
  const auto stats = call_.context->engine->stats();
  return queue_full_error(metrics.retry_after_s(stats->queued_requests, stats->running_requests));
}

bool Generation::submit_all() {
  engine::Engine& engine = *call_.context->engine;
  for (size_t i = 0; i < plan_.requests.size(); ++i) {
    engine::GenerateRequest& request = plan_.requests[i];
    const auto n = static_cast<size_t>(request.sampling.n);
    request.id = engine_ids_[i];
    {
      std::lock_guard lock(mutex_);
      if (done_ || cut_) break;
      engine_choices_ += n;
    }
    const Status status = engine.submit(
        std::move(request),
        [self = shared_from_this(), i](engine::OutputEvent event) { self->on_event(i, std::move(event)); });
    if (!status.ok()) {
      {
        std::lock_guard lock(mutex_);
        engine_choices_ -= n;
        done_ = true;
        pending_.clear();
      }
      abort_engine();
      fail_answer(refusal_of(status));
      leave_if_over();
      return false;
    }
    bool too_late = false;
    {
      std::lock_guard lock(mutex_);
      submitted_ = i + 1;
      too_late = done_ || cut_;
    }
    // Whoever ended it meanwhile didn't know of this one.
    if (too_late) engine.abort(engine_ids_[i]);
  }
  leave_if_over();
  return true;
}

// Tokens are held back until stream_interval of them are there; the first one is always shown at once.
bool Generation::worth_showing(const engine::OutputEvent& event) const {
  if (event.finish != engine::FinishReason::none) return true;
  if (!plan_.stream) return false;
  return !shown_any_ || static_cast<int>(event.tokens.size()) >= call_.services->options.stream_interval;
}

void Generation::on_event(size_t request, engine::OutputEvent event) {
  std::lock_guard lock(mutex_);
  if (event.finish != engine::FinishReason::none) --engine_choices_;
  const bool over = engine_choices_ == 0;
  bool show_now = false;
  if (!done_) {
    const int64_t now = now_ns();
    const auto same = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& p) {
      return p.request == request && p.event.choice == event.choice;
    });
    if (same == pending_.end()) {
      show_now = worth_showing(event);
      pending_.push_back({request, std::move(event), now, now});
    } else {
      merge(same->event, std::move(event));
      same->last_ns = now;
      show_now = worth_showing(same->event);
    }
  }
  if (!(show_now || over) || scheduled_) return;
  scheduled_ = true;
  shown_any_ = true;
  call_.services->output.post([self = shared_from_this()] { self->drain(); });
}

void Generation::schedule_if_pending() {
  std::lock_guard lock(mutex_);
  if (scheduled_ || (pending_.empty() && !cut_)) return;
  scheduled_ = true;
  call_.services->output.post([self = shared_from_this()] { self->drain(); });
}

void Generation::on_disconnect() {
  const bool stalled = call_.exchange->disconnect_reason() == http::DisconnectReason::client_stalled;
  close(stalled ? AbortReason::client_stalled : AbortReason::client_gone);
}

void Generation::close(AbortReason reason) {
  {
    std::lock_guard lock(mutex_);
    if (done_) return;
    done_ = true;
    pending_.clear();
  }
  call_.services->metrics.aborted(reason);
  abort_engine();
  leave_if_over();
}

void Generation::cut(AbortReason reason, ApiError error) {
  {
    std::lock_guard lock(mutex_);
    if (done_ || cut_) return;
    cut_.emplace(reason, std::move(error));
  }
  abort_engine();
  schedule_if_pending();
}

void Generation::abort_by_request(int prompt) {
  call_.services->metrics.aborted(AbortReason::requested);
  if (prompt < 0) {
    abort_engine();
  } else {
    call_.context->engine->abort(engine_ids_[static_cast<size_t>(prompt)]);
  }
}

void Generation::abort_engine() {
  size_t submitted = 0;
  {
    std::lock_guard lock(mutex_);
    if (engine_choices_ == 0) return;
    submitted = submitted_;
  }
  for (size_t i = 0; i < submitted; ++i) call_.context->engine->abort(engine_ids_[i]);
}

// Forgets the generation once the engine owes it nothing and the client got its answer.
void Generation::leave_if_over() {
  {
    std::lock_guard lock(mutex_);
    if (engine_choices_ > 0 || !done_) return;
  }
  call_.services->live.remove(plan_.names);
}

void Generation::drain() {
  try {
    while (drain_once()) {
    }
  } catch (const std::exception& e) {  // out of memory: this request ends, the others go on
    log_error("an answer could not be made: {}", e.what());
    fail_answer(to_api_error(internal_error("")));
    close(AbortReason::requested);
  }
  leave_if_over();
}

bool Generation::drain_once() {
  std::vector<Pending> batch;
  std::optional<std::pair<AbortReason, ApiError>> cut;
  {
    std::lock_guard lock(mutex_);
    const bool blocked = plan_.stream && !cut_ && !call_.exchange->writable();
    if (done_ || blocked || (pending_.empty() && !cut_)) {
      scheduled_ = false;
      return false;
    }
    batch.swap(pending_);
    cut = cut_;
  }
  if (cut) {
    fail_answer(cut->second);
    close(cut->first);
    return true;
  }
  std::string sse;
  for (Pending& pending : batch) {
    if (pending.event.finish == engine::FinishReason::error) {
      log_warn("request {} failed: {}", call_.exchange->id(), pending.event.error.message());
      fail_answer(to_api_error(pending.event.error));
      std::lock_guard lock(mutex_);
      done_ = true;
      break;
    }
    show(std::move(pending), plan_.stream ? &sse : nullptr);
  }
  bool over = false;
  {
    std::lock_guard lock(mutex_);
    over = done_;
    if (choices_left_ == 0) done_ = true;
  }
  if (over) {
    abort_engine();
  } else if (choices_left_ == 0) {
    finish_answer(std::move(sse));
  } else if (!sse.empty()) {
    call_.exchange->write(sse);
  }
  return true;
}

void Generation::time_tokens(const Pending& pending) {
  auto count = static_cast<int64_t>(pending.event.tokens.size());
  if (count == 0) return;
  int64_t& last = last_token_ns_[pending.request][static_cast<size_t>(pending.event.choice)];
  if (last == 0) {
    call_.services->metrics.first_token(seconds(pending.first_ns - started_ns_));
    last = pending.first_ns;
    --count;
  }
  call_.services->metrics.more_tokens(seconds(pending.last_ns - last), count);
  last = pending.last_ns;
}

void Generation::show(Pending pending, std::string* sse) {
  time_tokens(pending);
  engine::OutputEvent& event = pending.event;
  Totals& totals = totals_[pending.request];
  totals.prompt_tokens = event.prompt_tokens;
  totals.cached_tokens = event.cached_tokens;
  totals.completion_tokens += static_cast<int64_t>(event.tokens.size());
  if (event.finish != engine::FinishReason::none) {
    totals.finish = finish_name(event.finish);
    --choices_left_;
  }
  plan_.shaper->add(pending.request, std::move(event), sse);
}

void Generation::finish_answer(std::string sse) {
  Totals sum;
  for (const Totals& totals : totals_) {
    call_.services->metrics.request_finished(seconds(now_ns() - started_ns_), totals.prompt_tokens,
                                             totals.cached_tokens, totals.completion_tokens);
    sum.prompt_tokens += totals.prompt_tokens;
    sum.cached_tokens += totals.cached_tokens;
    sum.completion_tokens += totals.completion_tokens;
    sum.finish = totals.finish;
  }
  call_.exchange->set_summary(fmt::format("prompt_tokens={} cached_tokens={} output_tokens={} finish={}",
                                          sum.prompt_tokens, sum.cached_tokens, sum.completion_tokens,
                                          sum.finish));
  if (!plan_.stream) {
    call_.respond_json(plan_.shaper->body());
    return;
  }
  plan_.shaper->end(sse);
  call_.exchange->write(sse);
  call_.exchange->end_stream();
}

void Generation::fail_answer(const ApiError& error) {
  if (call_.exchange->respond(error_response(error))) return;
  // The stream has begun: its status can't change any more.
  call_.exchange->write(error_event(error));
  call_.exchange->end_stream();
}

}  // namespace bifocal::server
