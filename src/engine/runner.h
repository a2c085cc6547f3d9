// Turns a Step into arrays and runs it through the model: page copies, one plan, one forward pass, logits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/planner.h"
#include "base/status.h"
#include "engine/step.h"
#include "kv/kv_cache.h"
#include "model/model.h"

namespace bifocal::engine {

struct RunnerLimits {
  int max_rows = 0;        // T
  int max_sequences = 0;   // B
  int max_logit_rows = 0;  // R
};

class Runner {
 public:
  // All must outlive the runner. The model is prepared and the planner made for these limits.
  Runner(model::Model& model, attention::Planner& planner, kv::KvCache& cache, const RunnerLimits& limits);

  // Errors are the model's: the step's results are then undefined.
  Status run(const Step& step);

  // Of the last step: row [V] of R.
  const float* logits(int32_t row) const { return logits_.get() + static_cast<size_t>(row) * vocab_size_; }
  static uint64_t logit_bytes(const RunnerLimits& limits, int vocab_size);

 private:
  void lay_out(const Step& step);

  model::Model& model_;
  attention::Planner& planner_;
  kv::KvCache& cache_;
  size_t vocab_size_;
  std::vector<int32_t> token_ids_, positions_;     // [T]
  std::vector<int64_t> kv_slots_;                  // [T]
  std::vector<int32_t> logit_rows_;                // [R]
  std::vector<attention::Phase> phases_;           // [B]
  std::vector<int32_t> q_begin_, q_len_, kv_len_;  // [B]
  std::vector<int32_t> page_table_;                // [B, the most pages of a sequence in this step]
  std::unique_ptr<float[]> logits_;                // [R, V]; untouched memory costs nothing
};

}  // namespace bifocal::engine
