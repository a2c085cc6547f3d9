// Turns a Step into arrays and has them run: page copies, rows, logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/step.h"
#include "model/executor.h"

namespace bifocal::engine {

struct RunnerLimits {
  int max_rows = 0;        // T
  int max_sequences = 0;   // B
  int max_logit_rows = 0;  // R
};

class Runner {
 public:
  // The executor must outlive the runner and is made for these limits.
  Runner(model::Executor& executor, const RunnerLimits& limits);

  // read_logits: [R], as StepRows has it. Errors are the executor's: its results are then undefined.
  Status run(const Step& step, std::span<const uint8_t> read_logits);

  static uint64_t logit_bytes(const RunnerLimits& limits, int vocab_size);

 private:
  void lay_out(const Step& step);

  model::Executor& executor_;
  std::vector<int32_t> token_ids_, positions_;     // [T]
  std::vector<int64_t> kv_slots_;                  // [T]
  std::vector<int32_t> logit_rows_;                // [R]
  std::vector<attention::Phase> phases_;           // [B]
  std::vector<int32_t> q_begin_, q_len_, kv_len_;  // [B]
  std::vector<int32_t> page_table_;                // [B, the most pages of a sequence in this step]
};

}  // namespace bifocal::engine
