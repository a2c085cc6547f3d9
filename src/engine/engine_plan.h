// Everything that is decided before memory is taken: what a step may hold, which backends serve it, what goes
// where. Made from config.json and the checkpoint's headers, so that it can be shown, or refused, before any
// weight is read.
#pragma once

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "model/load.h"

namespace bifocal::engine {

// A model as planning sees it, loaded or not.
struct ModelOutline {
  const model::ModelSpec* spec = nullptr;
  uint64_t weight_bytes = 0;
  std::function<uint64_t(int max_tokens, int max_logit_rows)> workspace_bytes;
};
ModelOutline outline_of(const model::LoadPlan& plan);  // plan must outlive the outline
ModelOutline outline_of(const model::Model& model);    // model likewise

struct EnginePlan {
  EngineOptions options;  // with the automatic values filled in, and a thread pool
  SchedulerOptions scheduler;
  RunnerLimits limits;
  attention::PlanLimits attention_limits;
  MemoryPlan memory;
};

// Errors: invalid_argument (an option out of its range, an attention backend that can't serve the model),
// resource_exhausted with the arithmetic (memory).
Expected<EnginePlan> plan_engine(const ModelOutline& model, const EngineOptions& options);

}  // namespace bifocal::engine
