#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/trace.h"
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
    : call_(call), plan_(std::move(plan)), started_ns_(now_ns()), parts_(plan_.requests.size()) {
  for (size_t i = 0; i < plan_.requests.size(); ++i) {
    const auto n = static_cast<size_t>(plan_.requests[i].sampling.n);
    last_token_ns_.emplace_back(n, 0);
    engine_ids_.push_back(fmt::format("{}_{}", call_.exchange->id(), i));
    parts_[i].first_choice = choices_left_;
    choices_left_ += n;
  }
  choices_.resize(choices_left_);
  totals_.resize(plan_.requests.size());
  plan_.stream_intervals.resize(plan_.requests.size(), 1);
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
  call.exchange->on_writable([generation] { generation->schedule_if_due(); });
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
      parts_[i].owed = n;
      owed_ += n;
    }
    trace::async_begin(trace::Kind::request, "request", engine_ids_[i],
                       {static_cast<int64_t>(request.prompt_ids.size())});
    const Status status = engine.submit(
        std::move(request),
        [self = shared_from_this(), i](engine::OutputEvent event) { self->on_event(i, std::move(event)); });
    if (!status.ok()) {
      trace::async_end(trace::Kind::request, "request", engine_ids_[i]);
      {
        std::lock_guard lock(mutex_);
        parts_[i].owed = 0;
        owed_ -= n;
        done_ = true;
      }
      abort_all_parts();
      fail_answer(refusal_of(status));
      leave_if_over();
      return false;
    }
    bool aborted = false;
    {
      std::lock_guard lock(mutex_);
      parts_[i].submitted = true;
      aborted = parts_[i].aborted && parts_[i].owed > 0;
    }
    // Whoever aborted it meanwhile could not tell the engine yet.
    if (aborted) engine.abort(engine_ids_[i]);
  }
  leave_if_over();
  return true;
}

// Tokens are held back until an interval of them is there; a choice's first is always shown at once, and so
// is the prompt's part, which other choices may need.
bool Generation::worth_showing(size_t request, const Choice& choice) const {
  const engine::OutputEvent& event = choice.unshown->event;
  if (event.finish != engine::FinishReason::none || !event.prompt_logprobs.empty()) return true;
  if (!plan_.stream) return false;
  return !choice.begun || static_cast<int>(event.tokens.size()) >= plan_.stream_intervals[request];
}

void Generation::on_event(size_t request, engine::OutputEvent event) {
  std::lock_guard lock(mutex_);
  Part& part = parts_[request];
  if (event.finish != engine::FinishReason::none) {
    --owed_;
    if (--part.owed == 0) trace::async_end(trace::Kind::request, "request", engine_ids_[request]);
  }
  if (!done_) {
    const int64_t now = now_ns();
    const int index = event.choice;
    Choice& choice = choices_[part.first_choice + static_cast<size_t>(index)];
    if (choice.unshown) {
      merge(choice.unshown->event, std::move(event));
      choice.unshown->last_ns = now;
    } else {
      choice.unshown = {std::move(event), now, now};
    }
    if (!choice.due && worth_showing(request, choice)) {
      choice.due = choice.begun = true;
      due_.emplace_back(request, index);
    }
  }
  // The last event of all also has the generation forgotten.
  if (scheduled_ || (due_.empty() && owed_ > 0)) return;
  scheduled_ = true;
  call_.services->output.post([self = shared_from_this()] { self->drain(); });
}

void Generation::schedule_if_due() {
  std::lock_guard lock(mutex_);
  if (scheduled_ || (due_.empty() && !cut_)) return;
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
  }
  call_.services->metrics.aborted(reason);
  abort_all_parts();
  leave_if_over();
}

void Generation::cut(AbortReason reason, ApiError error) {
  {
    std::lock_guard lock(mutex_);
    if (done_ || cut_) return;
    cut_.emplace(reason, std::move(error));
  }
  abort_all_parts();
  schedule_if_due();
}

void Generation::abort_by_request(int prompt) {
  call_.services->metrics.aborted(AbortReason::requested);
  if (prompt < 0) {
    abort_all_parts();
  } else {
    abort_part(static_cast<size_t>(prompt));
  }
}

// Once, and only while the engine is at it: what ended by itself is left alone.
void Generation::abort_part(size_t request) {
  {
    std::lock_guard lock(mutex_);
    Part& part = parts_[request];
    const bool told = part.aborted;
    part.aborted = true;
    if (told || !part.submitted || part.owed == 0) return;
  }
  call_.context->engine->abort(engine_ids_[request]);
}

void Generation::abort_all_parts() {
  for (size_t i = 0; i < engine_ids_.size(); ++i) abort_part(i);
}

// Forgets the generation once the engine owes it nothing and nothing more is shown.
void Generation::leave_if_over() {
  {
    std::lock_guard lock(mutex_);
    if (owed_ > 0 || !done_) return;
  }
  call_.services->live.remove(plan_.names);
}

void Generation::drain() {
  const trace::Span span(trace::Kind::http, "format");
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
  std::vector<std::pair<size_t, Unshown>> batch;
  std::optional<std::pair<AbortReason, ApiError>> cut;
  {
    std::lock_guard lock(mutex_);
    const bool blocked = plan_.stream && !cut_ && !call_.exchange->writable();
    if (done_ || blocked || (due_.empty() && !cut_)) {
      scheduled_ = false;
      return false;
    }
    for (const auto& [request, index] : due_) {
      Choice& choice = choices_[parts_[request].first_choice + static_cast<size_t>(index)];
      batch.emplace_back(request, std::move(*choice.unshown));
      choice.unshown.reset();
      choice.due = false;
    }
    due_.clear();
    cut = cut_;
  }
  if (cut) {
    fail_answer(cut->second);
    close(cut->first);
    return true;
  }
  std::string sse;
  for (auto& [request, unshown] : batch) {
    if (unshown.event.finish == engine::FinishReason::error) {
      log_warn("request {} failed: {}", call_.exchange->id(), unshown.event.error.message());
      {
        std::lock_guard lock(mutex_);
        done_ = true;
      }
      fail_answer(to_api_error(unshown.event.error));
      abort_all_parts();
      return true;
    }
    show(request, std::move(unshown), plan_.stream ? &sse : nullptr);
  }
  bool over = false;
  {
    std::lock_guard lock(mutex_);
    over = done_;  // the client left meanwhile
    if (choices_left_ == 0) done_ = true;
  }
  if (over) return true;
  if (choices_left_ == 0) {
    leave_if_over();  // first: who has the answer may use its id again
    finish_answer(std::move(sse));
  } else if (!sse.empty()) {
    call_.exchange->write(sse);
  }
  return true;
}

void Generation::time_tokens(size_t request, const Unshown& unshown) {
  auto count = static_cast<int64_t>(unshown.event.tokens.size());
  if (count == 0) return;
  int64_t& last = last_token_ns_[request][static_cast<size_t>(unshown.event.choice)];
  if (last == 0) {
    call_.services->metrics.first_token(seconds(unshown.first_ns - started_ns_));
    last = unshown.first_ns;
    --count;
  }
  call_.services->metrics.more_tokens(seconds(unshown.last_ns - last), count);
  last = unshown.last_ns;
}

void Generation::show(size_t request, Unshown unshown, std::string* sse) {
  time_tokens(request, unshown);
  engine::OutputEvent& event = unshown.event;
  Totals& totals = totals_[request];
  totals.prompt_tokens = event.prompt_tokens;
  totals.cached_tokens = event.cached_tokens;
  totals.completion_tokens += static_cast<int64_t>(event.tokens.size());
  if (event.finish != engine::FinishReason::none) {
    totals.finish = finish_name(event.finish);
    --choices_left_;
  }
  plan_.shaper->add(request, std::move(event), sse);
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
