// Sampling as one would write it without caring for speed: sort everything, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "base/hash.h"
#include "engine/sampler.h"

namespace bifocal::engine::reference {

struct Choice {
  int32_t token = 0;
  double margin = 0;  // how far the draw was from choosing another token, in probability
};

inline std::vector<double> modified(const std::vector<float>& logits, const SamplingParams& p,
                                    const std::vector<int32_t>& prompt, const std::vector<int32_t>& output,
                                    const std::vector<int32_t>& banned) {
  std::vector<double> x(logits.begin(), logits.end());
  for (const auto& [token, bias] : p.logit_bias) x[static_cast<size_t>(token)] += static_cast<double>(bias);
  std::map<int32_t, int> seen;
  for (const int32_t t : prompt) seen[t];
  for (const int32_t t : output) ++seen[t];
  for (const auto& [token, written] : seen) {
    double& v = x[static_cast<size_t>(token)];
    v = v > 0 ? v / p.repetition_penalty : v * p.repetition_penalty;
    v -= p.frequency_penalty * written + (written > 0 ? p.presence_penalty : 0.0);
  }
  for (const int32_t t : banned) x[static_cast<size_t>(t)] = -std::numeric_limits<double>::infinity();
  return x;
}

inline Choice choose(const std::vector<double>& x, const SamplingParams& p, uint64_t seed, int64_t position) {
  std::vector<size_t> order(x.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  if (p.temperature < 1e-6 || p.top_k == 1) return {static_cast<int32_t>(order[0]), 1.0};
  const double max = x[order[0]];
  std::vector<double> weight(x.size());
  for (size_t i = 0; i < x.size(); ++i) weight[i] = std::exp((x[i] - max) / p.temperature);

  size_t kept = order.size();
  if (p.top_k > 0) kept = std::min(kept, static_cast<size_t>(p.top_k));
  double total = 0;
  for (size_t i = 0; i < kept; ++i) total += weight[order[i]];
  double sum = 0;
  double edge = 1;  // how close top_p or min_p came to cutting elsewhere
  size_t end = 0;
  while (end < kept && (p.top_p >= 1 || sum < p.top_p * total) &&
         (end == 0 || weight[order[end]] >= p.min_p)) {
    sum += weight[order[end++]];
    if (p.top_p < 1) edge = std::min(edge, std::abs(sum - p.top_p * total) / total);
  }
  for (const size_t i : order) edge = std::min(edge, p.min_p > 0 ? std::abs(weight[i] - p.min_p) : 1.0);

  std::vector<size_t> ids(order.begin(), order.begin() + static_cast<ptrdiff_t>(end));
  std::sort(ids.begin(), ids.end());
  const double target = unit_uniform(hash_combine(seed, static_cast<uint64_t>(position))) * sum;
  double before = 0;
  for (const size_t i : ids) {
    if (before + weight[i] > target) {
      const double margin = std::min(target - before, before + weight[i] - target) / sum;
      return {static_cast<int32_t>(i), std::min(margin, edge)};
    }
    before += weight[i];
  }
  return {static_cast<int32_t>(ids.back()), 0.0};
}

}  // namespace bifocal::engine::reference
