#include "attention/planner.h"

#include "base/check.h"
#include "base/clock.h"

namespace bifocal::attention {
namespace {

// The order of the phases within a step.
constexpr Phase kStepOrder[] = {Phase::prefill, Phase::verify, Phase::decode};

}  // namespace

Expected<std::unique_ptr<Planner>> Planner::create(const Router& router,
                                                   std::span<const AttentionDesc> classes,
                                                   const PlanLimits& limits) {
  BIFOCAL_CHECK_EQ(router.num_classes(), classes.size());
  std::unique_ptr<Planner> planner(new Planner(router, classes));
  planner->slots_.resize(classes.size());
  for (size_t c = 0; c < classes.size(); ++c) {
    for (size_t p = 0; p < kNumPhases; ++p) {
      const Backend* backend = router.decide(c, static_cast<Phase>(p)).backend;
      BIFOCAL_ASSIGN_OR_RETURN(planner->slots_[c][p].buffers, backend->make_buffers(classes[c], limits));
    }
  }
  return planner;
}

void Planner::plan(const StepBatch& batch) {
  step_ = batch.step;
  size_t begin = 0;
  for (const Phase phase : kStepOrder) {
    size_t end = begin;
    int64_t rows = 0;
    while (end < batch.phases.size() && batch.phases[end] == phase) rows += batch.q_len[end++];
    AttentionBatch part;
    part.phase = phase;
    part.step = batch.step;
    part.q_begin = batch.q_begin.subspan(begin, end - begin);
    part.q_len = batch.q_len.subspan(begin, end - begin);
    part.kv_len = batch.kv_len.subspan(begin, end - begin);
    part.page_table = batch.page_table.subspan(begin * static_cast<size_t>(batch.page_table_stride));
    part.page_table_stride = batch.page_table_stride;
    for (size_t c = 0; c < slots_.size(); ++c) {
      Slot& slot = slots_[c][static_cast<size_t>(phase)];
      slot.plan.reset();
      if (rows == 0) continue;
      slot.plan = router_.decide(c, phase).backend->plan(classes_[c], part, slot.buffers);
      ++slot.counters.steps;
      ++slot.counters.plans;
      slot.counters.rows += static_cast<uint64_t>(rows);
    }
    begin = end;
  }
  // Sequences must come ordered by phase.
  BIFOCAL_CHECK_EQ(begin, batch.phases.size());
}

Status Planner::run(size_t class_index, const LayerInputs& inputs, ThreadPool& pool) {
  const SteadyClock& clock = SteadyClock::instance();
  for (const Phase phase : kStepOrder) {
    Slot& slot = slots_.at(class_index)[static_cast<size_t>(phase)];
    if (!slot.plan) continue;
    const int64_t start_ns = clock.now_ns();
    BIFOCAL_RETURN_IF_ERROR(slot.plan->backend->run(*slot.plan, classes_[class_index], step_, inputs, pool));
    slot.counters.run_ns += static_cast<uint64_t>(clock.now_ns() - start_ns);
  }
  return {};
}

const PhaseCounters& Planner::counters(size_t class_index, Phase phase) const {
  return slots_.at(class_index)[static_cast<size_t>(phase)].counters;
}

size_t Planner::buffer_bytes() const {
  size_t bytes = 0;
  for (const auto& phases : slots_) {
    for (const Slot& slot : phases) bytes += slot.buffers.num_bytes();
  }
  return bytes;
}

}  // namespace bifocal::attention
