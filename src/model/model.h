// A decoder as the engine sees it: what it is, what it needs, and how it is put to work.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "attention/planner.h"
#include "base/status.h"
#include "kv/kv_cache.h"
#include "model/executor.h"
#include "model/spec.h"

namespace bifocal::model {

class CpuModel;

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelSpec& spec() const = 0;

  // Attention classes and which one each layer belongs to; page size and KV dtype filled in.
  virtual std::span<const attention::AttentionDesc> attention_classes() const = 0;

  virtual uint64_t weight_bytes() const = 0;
  // For steps of up to max_tokens rows and max_logit_rows logits.
  virtual uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const = 0;

  // Takes the memory of cache, plans and workspace. The model must outlive the executor and has one at a
  // time. Errors: the router's (a backend that can't serve the model), resource_exhausted.
  virtual Expected<std::unique_ptr<Executor>> make_executor(const ExecutorOptions& options) = 0;

  // The model as one that runs on this machine's processor; null when it is elsewhere.
  virtual CpuModel* on_cpu() { return nullptr; }
};

// A model on the CPU.
class CpuModel : public Model {
 public:
  // Reserves workspace for steps of up to max_tokens rows and max_logit_rows logits. Called once.
  virtual Status prepare(int max_tokens, int max_logit_rows) = 0;

  // logits: [R, vocab] f32. The planner was planned for this step.
  virtual Status forward(const StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                         float* logits) = 0;

  Expected<std::unique_ptr<Executor>> make_executor(const ExecutorOptions& options) final;
  CpuModel* on_cpu() final { return this; }
};

}  // namespace bifocal::model
