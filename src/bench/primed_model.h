// A model that doesn't compute the contexts of a benchmark: their keys and values are random numbers, written
// at the speed of memory. Everything behind them is the model's own work.
#pragma once

#include <vector>

#include "model/model.h"

namespace bifocal::bench {

// The model that a PrimedModel can stand before; unsupported for one that is not on the CPU.
Expected<model::CpuModel*> require_cpu_model(model::Model& model);

class PrimedModel final : public model::CpuModel {
 public:
  // The first context_rows rows at positions below context_len are made up, and so are the rows of the same
  // steps. model must outlive this, be prepared, and be used by nobody else meanwhile.
  PrimedModel(model::CpuModel& model, int64_t context_len, int64_t context_rows, ThreadPool& pool);

  const model::ModelSpec& spec() const override { return model_.spec(); }
  std::span<const attention::AttentionDesc> attention_classes() const override {
    return model_.attention_classes();
  }
  Status prepare(int, int) override { return {}; }
  uint64_t weight_bytes() const override { return model_.weight_bytes(); }
  uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const override {
    return model_.workspace_bytes(max_tokens, max_logit_rows);
  }
  Status forward(const model::StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                 float* logits) override;

 private:
  model::CpuModel& model_;
  int64_t context_len_;
  int64_t rows_left_;
  ThreadPool& pool_;
  std::vector<float> noise_;  // [kNoiseRows, a token's keys and values of a layer]
  int64_t noise_stride_ = 0;
};

}  // namespace bifocal::bench
