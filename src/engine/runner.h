// Turns a Step into arrays and has them run: page copies, rows, logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/step.h"
#include "kv/window_pages.h"
#include "model/executor.h"

namespace bifocal::engine {

struct RunnerLimits {
  int max_rows = 0;        // T
  int max_sequences = 0;   // B
  int max_logit_rows = 0;  // R
};

class Runner {
 public:
  // The executor must outlive the runner and is made for these limits. `window` is the pool's: null when
  // layers with a window have no pages of their own.
  Runner(model::Executor& executor, const RunnerLimits& limits, const kv::WindowPages* window = nullptr);

  // Submits the step to the executor. read_logits and sampling: [R], as StepRows has them. Errors are the
  // executor's: its results are then undefined.
  Status submit(const Step& step, std::span<const uint8_t> read_logits,
                std::span<const kernels::SampleParams> sampling);

  static uint64_t logit_bytes(const RunnerLimits& limits, int vocab_size);

 private:
  void lay_out(const Step& step);
  void lay_out_window(const Step& step);
  Status copy_pages(const Step& step);

  model::Executor& executor_;
  const kv::WindowPages* window_;
  std::vector<int32_t> token_ids_, positions_;     // [T]
  std::vector<int64_t> kv_slots_, window_slots_;   // [T]
  std::vector<int32_t> logit_rows_;                // [R]
  std::vector<attention::Phase> phases_;           // [B]
  std::vector<int32_t> q_begin_, q_len_, kv_len_;  // [B]
  // [B, the most pages of a sequence in this step]
  std::vector<int32_t> page_table_, window_page_table_;
};

}  // namespace bifocal::engine
