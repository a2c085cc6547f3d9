// The loop's inner part: one step from schedule to events.
#include <algorithm>
#include <utility>

#include "base/trace.h"
#include "engine/engine_loop.h"

namespace bifocal::engine {

Status EngineLoop::run_step() {
  const Step& step = scheduler_.schedule();
  inbox_.set_waiting(scheduler_.num_waiting());
  for (const SequenceKey& key : step.outgrown) {
    LiveRequest& live = *live_.at(key.request);
    send(live, live.choices[static_cast<size_t>(key.choice)].end(FinishReason::length));
  }
  if (step.empty()) {
    sweep();
    const bool stuck = !scheduler_.idle() && step.outgrown.empty();
    return stuck ? internal_error("requests wait and none can run") : Status();
  }
  const trace::StepSpan span({static_cast<int64_t>(counters_.steps) + 1, step.num_rows,
                              static_cast<int64_t>(step.sequences.size()), step.num_logits});
  for (const StepSequence& rows : step.sequences) {
    live_.at(rows.key.request)->stages.enter(RequestStages::Stage::prefill);
  }
  make_tasks(step);
  BIFOCAL_RETURN_IF_ERROR(runner_.run(step, device_rows_.read_logits(), device_rows_.sampling()));
  take_tokens();
  sampler_.run(tasks_, outcomes_, *parts_.pool);
  find_faults(step);
  deliver(step);
  scheduler_.complete(result_);
  sweep();
  ++counters_.steps;
  return {};
}

void EngineLoop::make_tasks(const Step& step) {
  tasks_.clear();
  owners_.clear();
  device_rows_.reset(step.num_logits);
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
      task.banned = choice.banned();
      task.seed = choice.seed();
      task.position = sample.position;
      task.logprob = live.request.return_logprob;
      task.top_logprobs = live.request.top_logprobs_num;
    }
    covered[static_cast<size_t>(sample.sequence)] = true;
    add_task(std::move(task), {sample.sequence, sample.logit_row, false});
  }
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& rows = step.sequences[i];
    if (!covered[i]) {  // a chunk inside a prompt: its pages are reused, so its last row must be sound
      SampleTask task;
      task.given = 0;
      add_task(std::move(task), {static_cast<int32_t>(i), rows.logit_begin + rows.num_logits - 1, false});
    }
    add_prompt_tasks(rows, static_cast<int32_t>(i), *live_.at(rows.key.request));
  }
  outcomes_.assign(tasks_.size(), {});
}

void EngineLoop::add_task(SampleTask task, TaskOwner owner) {
  task.logits = parts_.executor->logits(owner.logit_row);
  owner.on_device = device_rows_.add(owner.logit_row, task);
  tasks_.push_back(std::move(task));
  owners_.push_back(owner);
}

void EngineLoop::take_tokens() {
  const auto tokens = parts_.executor->tokens();
  if (tokens.empty()) return;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (owners_[i].on_device) tasks_[i].chosen = tokens[static_cast<size_t>(owners_[i].logit_row)];
  }
}

void EngineLoop::add_prompt_tasks(const StepSequence& rows, int32_t sequence, LiveRequest& live) {
  if (!live.wants_prompt_logprobs() || live.branched) return;
  const int64_t next = live.request.logprob_start_len + static_cast<int64_t>(live.prompt_logprobs.size());
  const int64_t first_row = rows.kv_len - rows.num_logits;  // position
  for (int64_t scored = std::max(next, first_row + 1); scored <= rows.kv_len && scored < live.prompt_len;
       ++scored) {
    SampleTask task;
    task.given = live.request.prompt_ids[static_cast<size_t>(scored)];
    task.logprob = true;
    task.top_logprobs = live.request.top_logprobs_num;
    add_task(std::move(task),
             {sequence, rows.logit_begin + static_cast<int32_t>(scored - 1 - first_row), true});
  }
}

void EngineLoop::find_faults(const Step& step) {
  result_.faulted.assign(step.sequences.size(), 0);
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (!outcomes_[i].valid) result_.faulted[static_cast<size_t>(owners_[i].sequence)] = 1;
  }
}

void EngineLoop::deliver(const Step& step) {
  const trace::Span span(trace::Kind::engine, "deliver", {static_cast<int64_t>(step.samples.size())});
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (!owners_[i].scores_prompt) continue;
    const StepSequence& rows = step.sequences[static_cast<size_t>(owners_[i].sequence)];
    live_.at(rows.key.request)->prompt_logprobs.emplace_back(std::move(outcomes_[i].token));
  }
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& rows = step.sequences[i];
    LiveRequest& live = *live_.at(rows.key.request);
    live.cached_tokens = rows.cached_tokens;
    if (result_.faulted[i] != 0) end_faulted(rows, live);
  }
  result_.samples.assign(step.samples.size(), {});
  for (size_t i = 0; i < step.samples.size(); ++i) {
    const StepSample& sample = step.samples[i];
    if (result_.faulted[static_cast<size_t>(sample.sequence)] != 0) continue;
    LiveRequest& live = *live_.at(sample.key.request);
    live.branched = true;
    live.stages.enter(RequestStages::Stage::decode);
    Choice& choice = live.choices[static_cast<size_t>(sample.key.choice)];
    if (live.request.sampling.max_new_tokens == 0) {
      result_.samples[i] = {kNoToken, true};
      send(live, choice.end(FinishReason::length));
      continue;
    }
    ++counters_.generated_tokens;
    ++window_tokens_;
    const int32_t token = outcomes_[i].token.id;
    OutputEvent event = choice.take(std::move(outcomes_[i].token));
    result_.samples[i] = {token, event.finish != FinishReason::none};
    send(live, std::move(event));
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
