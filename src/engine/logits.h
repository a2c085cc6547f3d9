// What sampling asks of one row of logits [V]: its largest values and its normaliser. Fast because V is large
// (151,936 for Qwen3) and little of it matters; every result depends on the row alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bifocal::engine {

constexpr size_t kLogitBlock = 128;

struct Candidate {
  float logit = 0;
  int32_t token = 0;
};

// Work space for one thread, grown once to the row's width.
struct LogitScratch {
  std::vector<float> row;         // [V] a modified copy
  std::vector<float> block_max;   // [ceil(V / kLogitBlock)]
  std::vector<float> ordered;     // as block_max
  std::vector<double> block_sum;  // as block_max
  std::vector<Candidate> candidates;
};

struct RowScan {
  float max = 0;
  int32_t argmax = 0;  // the lowest id among equals
  bool valid = false;  // no NaN, no +Inf, something finite; -Inf means "never"
};

// Fills block_max, which top_candidates reads.
RowScan scan_row(std::span<const float> logits, LogitScratch& scratch);

// The sum over the row of exp((logit - max) * scale), also per block in scratch.block_sum. max must be the
// row's.
double sum_exp(std::span<const float> logits, float max, float scale, LogitScratch& scratch);

// exp((logit - max) * scale) as sum_exp computes it: relative error below 1e-6, exactly 0 for -Inf.
float exp_term(float logit, float max, float scale);

// The token where the cumulated terms in order of ids pass fraction * total, total and block sums being
// sum_exp's.
int32_t pick_from_row(std::span<const float> logits, float max, float scale, double total, double fraction,
                      const LogitScratch& scratch);

// scratch.candidates: the `count` largest logits, best first, equals by lower id; fewer when -Inf leaves
// fewer. scan_row must have seen the row.
void top_candidates(std::span<const float> logits, size_t count, LogitScratch& scratch);

}  // namespace bifocal::engine
