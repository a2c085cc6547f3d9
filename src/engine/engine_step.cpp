// The loop's inner part: one step from schedule to events.
#include <algorithm>
#include <utility>

#include "base/trace.h"
#include "engine/engine_loop.h"

namespace bifocal::engine {
namespace {

// Planned behind a step of so many rows, a newcomer would wait for all of it; and there is little to hide.
constexpr int32_t kLongStepRows = 512;

}  // namespace

// Plans and submits a step, then takes in the results of the one before: or its own at once, where the next
// can't be planned without them.
Status EngineLoop::run_step() {
  const Step& step = scheduler_.schedule();
  inbox_.set_waiting(scheduler_.num_waiting());
  for (const SequenceKey& key : step.outgrown) {
    LiveRequest& live = *live_.at(key.request);
    send(live, live.choices[static_cast<size_t>(key.choice)].end(FinishReason::length));
  }
  if (step.empty()) {
    const bool stuck = num_submitted_ == num_finished_ && !scheduler_.idle() && step.outgrown.empty();
    while (num_submitted_ > num_finished_) BIFOCAL_RETURN_IF_ERROR(finish_step());
    sweep();
    return stuck ? internal_error("requests wait and none can run") : Status();
  }
  const trace::StepSpan span({static_cast<int64_t>(num_submitted_) + 1, step.num_rows,
                              static_cast<int64_t>(step.sequences.size()), step.num_logits});
  BIFOCAL_RETURN_IF_ERROR(submit_step(step));
  uint64_t stay = may_plan_ahead() ? 1 : 0;
  while (num_submitted_ - num_finished_ > (scheduler_.idle() ? 0 : stay)) {
    const uint64_t finished_before = counters_.finished_requests;
    BIFOCAL_RETURN_IF_ERROR(finish_step());
    // Somebody has left, and nobody waits for the place: who takes it arrives while the step in flight runs,
    // and joins the next one if that is not planned yet.
    if (counters_.finished_requests > finished_before && scheduler_.num_waiting() == 0) stay = 0;
  }
  return {};
}

bool EngineLoop::may_plan_ahead() const {
  const Flight& newest = flight(num_submitted_ - 1);
  return parts_.overlap_schedule && newest.step->num_rows < kLongStepRows &&
         newest.device_rows.all_on_device();
}

Status EngineLoop::submit_step(const Step& step) {
  for (const StepSequence& rows : step.sequences) {
    live_.at(rows.key.request)->stages.enter(RequestStages::Stage::prefill);
  }
  Flight& next = flight(num_submitted_++);
  next.step = &step;
  next.after_pause = std::exchange(paused_, false);
  make_tasks(next);
  return runner_.submit(step, next.device_rows.read_logits(), next.device_rows.sampling());
}

Status EngineLoop::finish_step() {
  Flight& oldest = flight(num_finished_);
  BIFOCAL_RETURN_IF_ERROR(parts_.executor->collect());
  ++num_finished_;
  if (const auto idle_ns = parts_.executor->idle_before_ns(); idle_ns && !oldest.after_pause) {
    counters_.device_idle_ns += *idle_ns;
    ++counters_.device_gaps;
  }
  take_results(oldest);
  sampler_.run(oldest.tasks, outcomes_, *parts_.pool);
  find_faults(oldest);
  deliver(oldest);
  scheduler_.complete(result_);
  sweep();
  ++counters_.steps;
  return {};
}

void EngineLoop::make_tasks(Flight& flight) {
  const Step& step = *flight.step;
  flight.tasks.clear();
  flight.owners.clear();
  flight.device_rows.reset(step.num_logits);
  const auto add = [&](const SampleTask& task, const TaskOwner& owner) {
    flight.tasks.push_back(task);
    flight.owners.push_back(owner);
    flight.owners.back().on_device = flight.device_rows.add(owner.logit_row, task);
  };
  std::vector<bool> covered(step.sequences.size(), false);
  for (const StepSample& sample : step.samples) {
    const LiveRequest& live = *live_.at(sample.key.request);
    const Choice& choice = live.choices[static_cast<size_t>(sample.key.choice)];
    SampleTask task;
    if (live.request.sampling.max_new_tokens == 0) {
      task.given = 0;  // nothing is chosen, but the row must be sound
    } else {
      task.params = &live.request.sampling;
      task.counts = choice.counts();
      task.banned = choice.banned(sample.position - live.prompt_len);
      task.seed = choice.seed();
      task.position = sample.position;
      task.logprob = live.request.return_logprob;
      task.top_logprobs = live.request.top_logprobs_num;
    }
    covered[static_cast<size_t>(sample.sequence)] = true;
    add(task, {sample.key, sample.sequence, sample.logit_row});
  }
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& rows = step.sequences[i];
    const auto sequence = static_cast<int32_t>(i);
    if (!covered[i]) {  // a chunk inside a prompt: its pages are reused, so its last row must be sound
      SampleTask task;
      task.given = 0;
      add(task, {rows.key, sequence, rows.logit_begin + rows.num_logits - 1});
    }
    const LiveRequest& live = *live_.at(rows.key.request);
    if (!live.wants_prompt_logprobs() || live.branched) continue;
    const int64_t next = live.request.logprob_start_len + static_cast<int64_t>(live.prompt_logprobs.size());
    const int64_t first_row = rows.kv_len - rows.num_logits;  // position
    for (int64_t scored = std::max(next, first_row + 1); scored <= rows.kv_len && scored < live.prompt_len;
         ++scored) {
      SampleTask task;
      task.given = live.request.prompt_ids[static_cast<size_t>(scored)];
      task.logprob = true;
      task.top_logprobs = live.request.top_logprobs_num;
      add(task, {rows.key, sequence, rows.logit_begin + static_cast<int32_t>(scored - 1 - first_row), true});
    }
  }
}

void EngineLoop::take_results(Flight& flight) {
  const auto tokens = parts_.executor->tokens();
  for (size_t i = 0; i < flight.tasks.size(); ++i) {
    SampleTask& task = flight.tasks[i];
    const TaskOwner& owner = flight.owners[i];
    if (find_open(owner.key) == nullptr) {  // what the task points to may be gone
      task = {};
      task.given = task.chosen = 0;
      continue;
    }
    task.logits = parts_.executor->logits(owner.logit_row);
    if (owner.on_device && !tokens.empty()) task.chosen = tokens[static_cast<size_t>(owner.logit_row)];
  }
  outcomes_.assign(flight.tasks.size(), {});
}

LiveRequest* EngineLoop::find_open(const SequenceKey& key) {
  const auto it = live_.find(key.request);
  if (it == live_.end()) return nullptr;
  LiveRequest& live = *it->second;
  return live.choices[static_cast<size_t>(key.choice)].finished() ? nullptr : &live;
}

void EngineLoop::find_faults(const Flight& flight) {
  result_.faulted.assign(flight.step->sequences.size(), 0);
  for (size_t i = 0; i < flight.tasks.size(); ++i) {
    if (!outcomes_[i].valid) result_.faulted[static_cast<size_t>(flight.owners[i].sequence)] = 1;
  }
}

void EngineLoop::deliver(const Flight& flight) {
  const Step& step = *flight.step;
  const trace::Span span(trace::Kind::engine, "deliver", {static_cast<int64_t>(step.samples.size())});
  for (size_t i = 0; i < flight.tasks.size(); ++i) {
    if (!flight.owners[i].scores_prompt) continue;
    LiveRequest* live = find_open(flight.owners[i].key);
    if (live != nullptr) live->prompt_logprobs.emplace_back(std::move(outcomes_[i].token));
  }
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& rows = step.sequences[i];
    LiveRequest* live = find_open(rows.key);
    if (live == nullptr) continue;
    live->cached_tokens = rows.cached_tokens;
    if (result_.faulted[i] != 0) end_faulted(rows, *live);
  }
  result_.samples.assign(step.samples.size(), {});
  for (size_t i = 0; i < step.samples.size(); ++i) {
    const StepSample& sample = step.samples[i];
    LiveRequest* live = find_open(sample.key);
    if (live == nullptr) continue;
    live->branched = true;
    live->stages.enter(RequestStages::Stage::decode);
    Choice& choice = live->choices[static_cast<size_t>(sample.key.choice)];
    if (live->request.sampling.max_new_tokens == 0) {
      result_.samples[i] = {kNoToken, true};
      send(*live, choice.end(FinishReason::length));
      continue;
    }
    ++counters_.generated_tokens;
    ++window_tokens_;
    const int32_t token = outcomes_[i].token.id;
    OutputEvent event = choice.take(std::move(outcomes_[i].token));
    result_.samples[i] = {token, event.finish != FinishReason::none};
    send(*live, std::move(event));
  }
}

void EngineLoop::end_faulted(const StepSequence& rows, LiveRequest& live) {
  ++counters_.numeric_faults;
  const Status fault =
      internal_error("numeric_fault: the model's logits were not finite, or no token was allowed");
  const bool all = !live.branched;  // the prompt is one sequence for all choices
  for (Choice& choice : live.choices) {
    if (choice.finished() || !(all || choice.index() == rows.key.choice)) continue;
    live.failed = true;
    send(live, choice.end(FinishReason::error, fault));
  }
}

}  // namespace bifocal::engine
