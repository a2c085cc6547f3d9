#include "engine/runner.h"

#include <algorithm>

namespace bifocal::engine {

Runner::Runner(model::Executor& executor, const RunnerLimits& limits, const kv::WindowPages* window)
    : executor_(executor), window_(window) {
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
    if (s.chosen_row >= 0) token_ids_.back() = kernels::chosen_at(s.chosen_row);
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

// Pages before a sequence's window have no window page; their entries are not read.
void Runner::lay_out_window(const Step& step) {
  window_page_table_.assign(page_table_.size(), 0);
  window_slots_.clear();
  const int64_t page_size = executor_.page_size();
  const size_t stride = page_table_.size() / step.sequences.size();
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& s = step.sequences[i];
    const int32_t first_row = s.kv_len - s.q_len;
    const auto num_pages = static_cast<size_t>(kv::pages_for(s.kv_len, executor_.page_size()));
    for (auto page = static_cast<size_t>(window_->first_page(first_row)); page < num_pages; ++page) {
      window_page_table_[i * stride + page] = window_->of(s.pages[page]);
    }
    for (int32_t position = first_row; position < s.kv_len; ++position) {
      const int64_t page = window_page_table_[i * stride + static_cast<size_t>(position / page_size)];
      window_slots_.push_back(page * page_size + position % page_size);
    }
  }
}

Status Runner::copy_pages(const Step& step) {
  for (const PageCopy& copy : step.copies) {
    BIFOCAL_RETURN_IF_ERROR(executor_.copy_tokens(copy.source, copy.target, copy.num_tokens));
    if (window_ == nullptr) continue;
    BIFOCAL_RETURN_IF_ERROR(
        executor_.copy_window_tokens(copy.window_source, copy.window_target, copy.num_tokens));
  }
  return {};
}

Status Runner::submit(const Step& step, std::span<const uint8_t> read_logits,
                      std::span<const kernels::SampleParams> sampling) {
  lay_out(step);
  if (window_ != nullptr) lay_out_window(step);
  BIFOCAL_RETURN_IF_ERROR(copy_pages(step));
  attention::StepBatch batch;
  batch.step = step.id;
  batch.phases = phases_;
  batch.q_begin = q_begin_;
  batch.q_len = q_len_;
  batch.kv_len = kv_len_;
  batch.page_table = page_table_;
  batch.page_table_stride = static_cast<int64_t>(page_table_.size() / step.sequences.size());
  batch.window_page_table = window_page_table_;
  return executor_.submit(
      {token_ids_, positions_, kv_slots_, logit_rows_, read_logits, window_slots_, sampling}, batch);
}

}  // namespace bifocal::engine
