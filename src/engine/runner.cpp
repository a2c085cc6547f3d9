#include "engine/runner.h"

#include <algorithm>

namespace bifocal::engine {

Runner::Runner(model::Executor& executor, const RunnerLimits& limits) : executor_(executor) {
  const auto rows = static_cast<size_t>(limits.max_rows);
  const auto sequences = static_cast<size_t>(limits.max_sequences);
  token_ids_.reserve(rows);
  positions_.reserve(rows);
  kv_slots_.reserve(rows);
  logit_rows_.reserve(static_cast<size_t>(limits.max_logit_rows));
  phases_.reserve(sequences);
  q_begin_.reserve(sequences);
  q_len_.reserve(sequences);
  kv_len_.reserve(sequences);
}

uint64_t Runner::logit_bytes(const RunnerLimits& limits, int vocab_size) {
  return static_cast<uint64_t>(limits.max_logit_rows) * static_cast<uint64_t>(vocab_size) * sizeof(float);
}

void Runner::lay_out(const Step& step) {
  token_ids_.clear();
  positions_.clear();
  kv_slots_.clear();
  logit_rows_.clear();
  phases_.clear();
  q_begin_.clear();
  q_len_.clear();
  kv_len_.clear();
  const int64_t page_size = executor_.page_size();
  size_t stride = 1;
  for (const StepSequence& s : step.sequences) {
    stride = std::max(stride, static_cast<size_t>(kv::pages_for(s.kv_len, executor_.page_size())));
  }
  page_table_.assign(step.sequences.size() * stride, 0);
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& s = step.sequences[i];
    phases_.push_back(s.phase);
    q_begin_.push_back(s.q_begin);
    q_len_.push_back(s.q_len);
    kv_len_.push_back(s.kv_len);
    const auto num_pages = static_cast<size_t>(kv::pages_for(s.kv_len, executor_.page_size()));
    std::copy_n(s.pages.begin(), num_pages, page_table_.begin() + static_cast<ptrdiff_t>(i * stride));
    token_ids_.insert(token_ids_.end(), s.tokens.begin(), s.tokens.end());
    for (int32_t position = s.kv_len - s.q_len; position < s.kv_len; ++position) {
      positions_.push_back(position);
      const kv::PageId page = s.pages[static_cast<size_t>(position / page_size)];
      kv_slots_.push_back(page * page_size + position % page_size);
    }
    for (int32_t row = s.q_begin + s.q_len - s.num_logits; row < s.q_begin + s.q_len; ++row) {
      logit_rows_.push_back(row);
    }
  }
}

Status Runner::run(const Step& step, std::span<const uint8_t> read_logits) {
  lay_out(step);
  for (const PageCopy& copy : step.copies) {
    BIFOCAL_RETURN_IF_ERROR(executor_.copy_tokens(copy.source, copy.target, copy.num_tokens));
  }
  attention::StepBatch batch;
  batch.step = step.id;
  batch.phases = phases_;
  batch.q_begin = q_begin_;
  batch.q_len = q_len_;
  batch.kv_len = kv_len_;
  batch.page_table = page_table_;
  batch.page_table_stride = static_cast<int64_t>(page_table_.size() / step.sequences.size());
  return executor_.run({token_ids_, positions_, kv_slots_, logit_rows_, read_logits}, batch);
}

}  // namespace bifocal::engine
