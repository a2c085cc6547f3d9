#include "model/step_runner.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/hash.h"

namespace bifocal::model {
namespace {

template <class T>
T value_or_die(Expected<T> expected) {
  if (!expected.ok()) check_failed(__FILE__, __LINE__, "expected.ok()", expected.status().message());
  return std::move(expected).value();
}

}  // namespace

StepRunner::StepRunner(Model& model, const RunnerOptions& options) : model_(model) {
  const auto classes = model.attention_classes();
  attention::RouterOptions router_options;
  router_options.backend = options.backend;
  router_options.mla = options.mla;
  router_options.deterministic = options.deterministic;
  router_options.device = model.on_cpu() == nullptr ? DeviceKind::cuda : DeviceKind::cpu;
  const int page_size = classes.front().page_size;
  pages_per_seq_ = (options.max_kv_len + page_size - 1) / page_size;
  const int num_pages = pages_per_seq_ * options.num_seqs;
  ExecutorOptions executor_options;
  executor_options.attention = router_options;
  executor_options.limits = {options.max_tokens, options.num_seqs, options.max_kv_len, options.max_threads};
  executor_options.max_logit_rows = options.max_tokens;
  executor_options.num_pages = num_pages;
  executor_ = value_or_die(model.make_executor(executor_options));
  for (int page = 0; page < num_pages; ++page) free_pages_.push_back(page);
  pages_.resize(static_cast<size_t>(options.num_seqs));
  lengths_.resize(static_cast<size_t>(options.num_seqs));
  reset();
}

StepRunner::~StepRunner() = default;

void StepRunner::reset() {
  for (auto& pages : pages_) {
    free_pages_.insert(free_pages_.end(), pages.begin(), pages.end());
    pages.clear();
  }
  std::fill(lengths_.begin(), lengths_.end(), 0);
  SplitMix64 random(step_ + 1);
  for (size_t i = free_pages_.size(); i > 1; --i) std::swap(free_pages_[i - 1], free_pages_[random.below(i)]);
}

void StepRunner::grow(int seq, size_t num_tokens) {
  auto& pages = pages_[static_cast<size_t>(seq)];
  auto& length = lengths_[static_cast<size_t>(seq)];
  length += static_cast<int32_t>(num_tokens);
  const size_t needed = static_cast<size_t>((length + executor_->page_size() - 1) / executor_->page_size());
  BIFOCAL_CHECK_LE(needed, static_cast<size_t>(pages_per_seq_));
  while (pages.size() < needed) {
    BIFOCAL_CHECK(!free_pages_.empty());
    pages.push_back(free_pages_.back());
    free_pages_.pop_back();
  }
}

std::vector<std::vector<float>> StepRunner::step(std::span<const Part> parts) {
  std::vector<int32_t> ids, positions, logit_rows, q_begin, q_len, kv_len;
  std::vector<int64_t> slots;
  std::vector<attention::Phase> phases;
  std::vector<int32_t> page_table(parts.size() * static_cast<size_t>(pages_per_seq_), -1);
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part& part = parts[p];
    const int32_t start = lengths_[static_cast<size_t>(part.seq)];
    grow(part.seq, part.tokens.size());
    const auto& pages = pages_[static_cast<size_t>(part.seq)];
    std::copy(pages.begin(), pages.end(), page_table.begin() + static_cast<int64_t>(p) * pages_per_seq_);
    phases.push_back(part.phase);
    q_begin.push_back(static_cast<int32_t>(ids.size()));
    q_len.push_back(static_cast<int32_t>(part.tokens.size()));
    kv_len.push_back(lengths_[static_cast<size_t>(part.seq)]);
    for (size_t i = 0; i < part.tokens.size(); ++i) {
      const int32_t position = start + static_cast<int32_t>(i);
      const int32_t page = pages[static_cast<size_t>(position / executor_->page_size())];
      if (!part.no_logits && (part.all_logits || i + 1 == part.tokens.size())) {
        logit_rows.push_back(static_cast<int32_t>(ids.size()));
      }
      ids.push_back(part.tokens[i]);
      positions.push_back(position);
      slots.push_back(int64_t{page} * executor_->page_size() + position % executor_->page_size());
    }
  }
  attention::StepBatch batch;
  batch.step = ++step_;
  batch.phases = phases;
  batch.q_begin = q_begin;
  batch.q_len = q_len;
  batch.kv_len = kv_len;
  batch.page_table = page_table;
  batch.page_table_stride = pages_per_seq_;
  const Status status = executor_->run({ids, positions, slots, logit_rows, {}}, batch);
  if (!status.ok()) check_failed(__FILE__, __LINE__, "run", status.message());
  const auto vocab = static_cast<size_t>(model_.spec().vocab_size);
  std::vector<std::vector<float>> out;
  for (size_t i = 0; i < logit_rows.size(); ++i) {
    const float* row = executor_->logits(static_cast<int32_t>(i));
    out.emplace_back(row, row + vocab);
  }
  return out;
}

std::vector<std::vector<float>> StepRunner::prefill(int seq, std::span<const int32_t> prompt, int chunk) {
  std::vector<std::vector<float>> rows;
  for (size_t begin = 0; begin < prompt.size(); begin += static_cast<size_t>(chunk)) {
    const auto tokens = prompt.subspan(begin, std::min(static_cast<size_t>(chunk), prompt.size() - begin));
    Part part;
    part.seq = seq;
    part.tokens.assign(tokens.begin(), tokens.end());
    part.all_logits = true;
    for (auto& row : step({&part, 1})) rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<float> StepRunner::decode(int seq, int32_t token) {
  Part part;
  part.seq = seq;
  part.tokens = {token};
  part.phase = attention::Phase::decode;
  return step({&part, 1}).front();
}

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

float max_abs_difference(std::span<const float> a, std::span<const float> b) {
  BIFOCAL_CHECK_EQ(a.size(), b.size());
  float difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float d = std::abs(a[i] - b[i]);
    if (!(d <= difference)) difference = d;  // keeps NaN
  }
  return difference;
}

}  // namespace bifocal::model
