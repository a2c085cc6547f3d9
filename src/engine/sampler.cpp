#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/hash.h"
#include "base/trace.h"
#include "model/executor.h"

namespace bifocal::engine {
namespace {

constexpr double kGreedyTemperature = 1e-6;

bool is_greedy(const SamplingParams& params) {
  return params.temperature < kGreedyTemperature || params.top_k == 1;
}

bool is_truncated(const SamplingParams& params, size_t vocab_size) {
  return (params.top_k > 0 && static_cast<size_t>(params.top_k) < vocab_size) || params.top_p < 1 ||
         params.min_p > 0;
}

bool modifies_logits(const SampleTask& task) {
  return !task.params->logit_bias.empty() || !task.banned.empty() || has_penalties(*task.params);
}

void modify_logits(const SampleTask& task, std::span<float> row) {
  const SamplingParams& params = *task.params;
  const auto at = [&](int32_t token) -> float& { return row[static_cast<size_t>(token)]; };
  for (const auto& [token, bias] : params.logit_bias) at(token) += bias;
  if (task.counts != nullptr) {
    const auto repetition = static_cast<float>(params.repetition_penalty);
    const auto frequency = static_cast<float>(params.frequency_penalty);
    const auto presence = static_cast<float>(params.presence_penalty);
    for (const TokenCounts::Entry& entry : task.counts->entries()) {
      float& logit = at(entry.token);
      logit = logit > 0 ? logit / repetition : logit * repetition;
      if (entry.written > 0) logit -= frequency * static_cast<float>(entry.written) + presence;
    }
  }
  for (const int32_t token : task.banned) at(token) = -std::numeric_limits<float>::infinity();
}

// Keeps of scratch.candidates what top_k, top_p and min_p leave, and gives the sum of their terms.
double truncate(const SamplingParams& params, std::span<const float> row, float max, float scale,
                LogitScratch& scratch) {
  constexpr size_t kFirstGuess = 64;  // enough for most nuclei; grows until it is
  const bool limited = params.top_k > 0 && static_cast<size_t>(params.top_k) < row.size();
  size_t count = limited ? static_cast<size_t>(params.top_k) : std::min(kFirstGuess, row.size());
  double total = limited || params.top_p >= 1 ? 0.0 : sum_exp(row, max, scale, scratch);
  const auto term = [&](const Candidate& c) { return static_cast<double>(exp_term(c.logit, max, scale)); };
  for (;; count = std::min(count * 8, row.size())) {
    top_candidates(row, count, scratch);
    auto& candidates = scratch.candidates;
    if (limited) {
      total = 0;
      for (const Candidate& c : candidates) total += term(c);
    }
    const double wanted = params.top_p < 1 ? params.top_p * total : std::numeric_limits<double>::infinity();
    size_t kept = 0;
    double sum = 0;
    while (kept < candidates.size() && sum < wanted &&
           (kept == 0 || term(candidates[kept]) >= params.min_p)) {
      sum += term(candidates[kept++]);
    }
    const bool complete = limited || kept < candidates.size() || count == row.size();
    if (!complete && sum < wanted) continue;
    candidates.resize(kept);
    return sum;
  }
}

int32_t pick_from_candidates(std::vector<Candidate>& candidates, float max, float scale, double total,
                             double fraction) {
  std::sort(candidates.begin(), candidates.end(),
            [](const auto& a, const auto& b) { return a.token < b.token; });
  const double target = fraction * total;
  double sum = 0;
  int32_t picked = candidates.front().token;
  for (const Candidate& c : candidates) {
    const double term = static_cast<double>(exp_term(c.logit, max, scale));
    if (term > 0) picked = c.token;
    sum += term;
    if (sum > target) break;
  }
  return picked;
}

int32_t draw(const SampleTask& task, std::span<const float> row, const RowScan& scan, LogitScratch& scratch) {
  if (is_greedy(*task.params)) return scan.argmax;
  const auto scale = static_cast<float>(1.0 / task.params->temperature);
  const double fraction = unit_uniform(hash_combine(task.seed, static_cast<uint64_t>(task.position)));
  if (!is_truncated(*task.params, row.size())) {
    const double total = sum_exp(row, scan.max, scale, scratch);
    return pick_from_row(row, scan.max, scale, total, fraction, scratch);
  }
  const double total = truncate(*task.params, row, scan.max, scale, scratch);
  return pick_from_candidates(scratch.candidates, scan.max, scale, total, fraction);
}

}  // namespace

uint64_t choice_seed(uint64_t seed, int choice) {
  return choice == 0 ? seed : hash_combine(seed, static_cast<uint64_t>(choice));
}

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0 || params.frequency_penalty != 0.0 ||
         params.presence_penalty != 0.0;
}

std::optional<kernels::SampleParams> device_params(const SampleTask& task) {
  if (task.logprob) return std::nullopt;
  if (task.given) return kernels::SampleParams{};
  if (modifies_logits(task)) return std::nullopt;
  if (is_greedy(*task.params)) return kernels::SampleParams{};
  return kernels::SampleParams{task.seed,          task.params->temperature,
                               task.params->top_p, task.params->min_p,
                               task.params->top_k, static_cast<int32_t>(task.position)};
}

Sampler::Sampler(int vocab_size, int num_threads)
    : vocab_size_(static_cast<size_t>(vocab_size)), scratch_(static_cast<size_t>(num_threads)) {
  BIFOCAL_CHECK_GE(vocab_size, 1);
}

void Sampler::run(std::span<const SampleTask> tasks, std::span<SampleOutcome> outcomes, ThreadPool& pool) {
  const trace::Span span(trace::Kind::sampling, "sample", {static_cast<int64_t>(tasks.size())});
  BIFOCAL_CHECK_EQ(tasks.size(), outcomes.size());
  BIFOCAL_CHECK_GE(scratch_.size(), static_cast<size_t>(pool.num_threads()));
  pool.parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t task, int thread) {
    const auto i = static_cast<size_t>(task);
    outcomes[i] = run_one(tasks[i], scratch_[static_cast<size_t>(thread)]);
  });
}

SampleOutcome Sampler::run_one(const SampleTask& task, LogitScratch& scratch) const {
  SampleOutcome outcome;
  if (task.chosen) {
    outcome.valid = *task.chosen != model::kUnsoundRow;
    outcome.token.id = task.given.value_or(*task.chosen);
    return outcome;
  }
  const std::span<const float> raw(task.logits, vocab_size_);
  RowScan scan = scan_row(raw, scratch);
  if (!scan.valid) return outcome;
  double log_normaliser = 0;
  if (task.logprob) {
    log_normaliser = static_cast<double>(scan.max) + std::log(sum_exp(raw, scan.max, 1.0F, scratch));
    if (task.top_logprobs > 0) {
      top_candidates(raw, static_cast<size_t>(task.top_logprobs), scratch);
      for (const Candidate& c : scratch.candidates) {
        outcome.token.top_logprobs.push_back(
            {static_cast<float>(static_cast<double>(c.logit) - log_normaliser), c.token});
      }
    }
  }
  if (task.given) {
    outcome.token.id = *task.given;
  } else {
    std::span<const float> row = raw;
    if (modifies_logits(task)) {
      scratch.row.assign(raw.begin(), raw.end());
      modify_logits(task, scratch.row);
      row = scratch.row;
      scan = scan_row(row, scratch);
      if (!scan.valid) return outcome;
    }
    outcome.token.id = draw(task, row, scan, scratch);
  }
  if (task.logprob) {
    const auto logit = static_cast<double>(raw[static_cast<size_t>(outcome.token.id)]);
    outcome.token.logprob = static_cast<float>(logit - log_normaliser);
  }
  outcome.valid = true;
  return outcome;
}

}  // namespace bifocal::engine
