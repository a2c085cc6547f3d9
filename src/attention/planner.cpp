#include "attention/planner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "base/trace.h"

namespace bifocal::attention {
namespace {

// The order of the phases within a step.
constexpr Phase kStepOrder[] = {Phase::prefill, Phase::verify, Phase::decode};

std::span<const int32_t> page_table_of(const StepBatch& batch, const AttentionDesc& desc) {
  return desc.window > 0 && !batch.window_page_table.empty() ? batch.window_page_table : batch.page_table;
}

}  // namespace

Expected<std::unique_ptr<Planner>> Planner::create(const Router& router,
                                                   std::span<const AttentionDesc> classes,
                                                   const PlanLimits& limits) {
  BIFOCAL_CHECK_EQ(router.num_classes(), classes.size());
  std::unique_ptr<Planner> planner(new Planner(router, classes));
  planner->slots_.resize(classes.size());
  BIFOCAL_RETURN_IF_ERROR(planner->make_pairs(limits));
  for (size_t c = 0; c < classes.size(); ++c) {
    if (planner->in_pair(c)) continue;
    for (size_t p = 0; p < kNumPhases; ++p) {
      const Backend* backend = router.decide(c, static_cast<Phase>(p)).backend;
      BIFOCAL_ASSIGN_OR_RETURN(planner->slots_[c][p].buffers, backend->make_buffers(classes[c], limits));
    }
  }
  return planner;
}

Status Planner::make_pairs(const PlanLimits& limits) {
  for (size_t c = 0; c < classes_.size(); ++c) {
    if (classes_[c].kind != Kind::mla || classes_[c].expanded_head_dim_k == 0) continue;
    const auto expanded = std::find(classes_.begin(), classes_.end(), expanded_class(classes_[c]));
    BIFOCAL_CHECK(expanded != classes_.end());
    MlaPair pair;
    pair.latent = c;
    pair.expanded = static_cast<size_t>(expanded - classes_.begin());
    BIFOCAL_ASSIGN_OR_RETURN(pair.attention,
                             MlaAttention::create(router_, classes_, c, pair.expanded, limits));
    pairs_.push_back(std::move(pair));
  }
  return {};
}

bool Planner::in_pair(size_t class_index) const {
  return std::any_of(pairs_.begin(), pairs_.end(), [&](const MlaPair& pair) {
    return pair.latent == class_index || pair.expanded == class_index;
  });
}

void Planner::count_plan(Slot& slot, int64_t rows) {
  ++slot.counters.steps;
  ++slot.counters.plans;
  slot.counters.rows += static_cast<uint64_t>(rows);
}

void Planner::plan(const StepBatch& batch) {
  const trace::Span span(trace::Kind::plan, "plan", {static_cast<int64_t>(batch.phases.size())});
  step_ = batch.step;
  size_t begin = 0;
  for (const Phase phase : kStepOrder) {
    size_t end = begin;
    int64_t rows = 0;
    while (end < batch.phases.size() && batch.phases[end] == phase) rows += batch.q_len[end++];
    const auto rows_from = [&](std::span<const int32_t> table, size_t sequence) {
      return table.subspan(sequence * static_cast<size_t>(batch.page_table_stride));
    };
    AttentionBatch part;
    part.phase = phase;
    part.step = batch.step;
    part.q_begin = batch.q_begin.subspan(begin, end - begin);
    part.q_len = batch.q_len.subspan(begin, end - begin);
    part.kv_len = batch.kv_len.subspan(begin, end - begin);
    part.page_table_stride = batch.page_table_stride;
    const auto p = static_cast<size_t>(phase);
    for (size_t c = 0; c < slots_.size(); ++c) {
      Slot& slot = slots_[c][p];
      slot.plan.reset();
      if (rows == 0 || in_pair(c)) continue;
      part.page_table = rows_from(page_table_of(batch, classes_[c]), begin);
      slot.plan = router_.decide(c, phase).backend->plan(classes_[c], part, slot.buffers);
      count_plan(slot, rows);
    }
    for (MlaPair& pair : pairs_) {
      pair.serving[p].reset();
      if (rows == 0) continue;
      part.page_table = rows_from(batch.page_table, begin);
      pair.serving[p] = pair.attention->plan(part) ? pair.expanded : pair.latent;
      count_plan(slots_[*pair.serving[p]][p], rows);
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
    const trace::Span span(trace::Kind::phase, to_string(phase), {slot.plan->batch.num_seqs()});
    const int64_t start_ns = clock.now_ns();
    BIFOCAL_RETURN_IF_ERROR(slot.plan->backend->run(*slot.plan, classes_[class_index], step_, inputs, pool));
    slot.counters.run_ns += static_cast<uint64_t>(clock.now_ns() - start_ns);
  }
  return {};
}

Status Planner::run_mla(size_t class_index, const MlaInputs& inputs, ThreadPool& pool) {
  const auto pair = std::find_if(pairs_.begin(), pairs_.end(),
                                 [&](const MlaPair& each) { return each.latent == class_index; });
  if (pair == pairs_.end()) {
    return internal_error(fmt::format("attention class {} has no latents", to_string(classes_[class_index])));
  }
  const SteadyClock& clock = SteadyClock::instance();
  for (const Phase phase : kStepOrder) {
    const auto p = static_cast<size_t>(phase);
    if (!pair->serving[p]) continue;
    const trace::Span span(trace::Kind::phase, to_string(phase));
    const int64_t start_ns = clock.now_ns();
    BIFOCAL_RETURN_IF_ERROR(pair->attention->run(phase, step_, inputs, pool));
    slots_[*pair->serving[p]][p].counters.run_ns += static_cast<uint64_t>(clock.now_ns() - start_ns);
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
  for (const MlaPair& pair : pairs_) bytes += pair.attention->num_bytes();
  return bytes;
}

}  // namespace bifocal::attention
