#include "engine/logits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace bifocal::engine {
namespace {

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

// e^x for x <= 0 without a table or a branch: x = n ln 2 + r, a polynomial in r (Cephes' expf coefficients),
// and n added to the exponent. Below -87 the result is 0.
inline float exp_nonpositive(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const int32_t keep = -static_cast<int32_t>(x >= -87.0F);
  const float y = std::bit_cast<float>(std::bit_cast<int32_t>(x) & keep);
  const float shifted = y * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (y - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound) + 127;
  const float power = std::bit_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(exponent) << 23));
  return std::bit_cast<float>(std::bit_cast<int32_t>(p * power) & keep);
}

// An integer that orders as the float does, with NaNs outside of [-Inf, +Inf]: integer maxima become vector
// code.
inline int32_t order_key(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
inline float from_order_key(int32_t key) {
  return std::bit_cast<float>(key ^ ((key >> 31) & 0x7fffffff));
}

size_t num_blocks(size_t vocab) {
  return (vocab + kLogitBlock - 1) / kLogitBlock;
}

std::span<const float> block_of(std::span<const float> logits, size_t block) {
  const size_t begin = block * kLogitBlock;
  return logits.subspan(begin, std::min(kLogitBlock, logits.size() - begin));
}

double block_sum_exp(std::span<const float> block, float max, float scale) {
  float terms[kLogitBlock] = {};
  for (size_t i = 0; i < block.size(); ++i) terms[i] = exp_nonpositive((block[i] - max) * scale);
  for (size_t width = kLogitBlock / 2; width >= 1; width /= 2) {  // one order whatever the instruction set
    for (size_t i = 0; i < width; ++i) terms[i] += terms[i + width];
  }
  return static_cast<double>(terms[0]);
}

bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

}  // namespace

float exp_term(float logit, float max, float scale) {
  return exp_nonpositive((logit - max) * scale);
}

RowScan scan_row(std::span<const float> logits, LogitScratch& scratch) {
  scratch.block_max.resize(num_blocks(logits.size()));
  int32_t min_key = std::numeric_limits<int32_t>::max();
  int32_t max_key = std::numeric_limits<int32_t>::min();
  for (size_t b = 0; b < scratch.block_max.size(); ++b) {
    int32_t block_min = std::numeric_limits<int32_t>::max();
    int32_t block_max = std::numeric_limits<int32_t>::min();
    for (const float x : block_of(logits, b)) {
      const int32_t key = order_key(x);
      block_min = std::min(block_min, key);
      block_max = std::max(block_max, key);
    }
    scratch.block_max[b] = from_order_key(block_max);
    min_key = std::min(min_key, block_min);
    max_key = std::max(max_key, block_max);
  }
  RowScan scan;
  scan.max = from_order_key(max_key);
  scan.valid = min_key >= order_key(kNegInf) && std::isfinite(scan.max);
  if (!scan.valid) return scan;
  const auto& maxima = scratch.block_max;
  const auto first = static_cast<size_t>(std::find(maxima.begin(), maxima.end(), scan.max) - maxima.begin());
  const auto block = block_of(logits, first);
  const auto at = static_cast<size_t>(std::find(block.begin(), block.end(), scan.max) - block.begin());
  scan.argmax = static_cast<int32_t>(first * kLogitBlock + at);
  return scan;
}

double sum_exp(std::span<const float> logits, float max, float scale, LogitScratch& scratch) {
  scratch.block_sum.resize(num_blocks(logits.size()));
  double total = 0;
  for (size_t b = 0; b < scratch.block_sum.size(); ++b) {
    scratch.block_sum[b] = block_sum_exp(block_of(logits, b), max, scale);
    total += scratch.block_sum[b];
  }
  return total;
}

int32_t pick_from_row(std::span<const float> logits, float max, float scale, double total, double fraction,
                      const LogitScratch& scratch) {
  const double target = fraction * total;
  double before = 0;
  size_t b = 0;
  size_t last_filled = 0;  // rounding may leave the target just behind the last block
  for (; b < scratch.block_sum.size(); ++b) {
    if (scratch.block_sum[b] > 0) last_filled = b;
    if (before + scratch.block_sum[b] > target) break;
    before += scratch.block_sum[b];
  }
  if (b == scratch.block_sum.size()) b = last_filled;
  const auto block = block_of(logits, b);
  size_t picked = 0;
  double sum = before;
  for (size_t i = 0; i < block.size(); ++i) {
    const float term = exp_term(block[i], max, scale);
    if (term == 0.0F) continue;
    picked = i;
    sum += static_cast<double>(term);
    if (sum > target) break;
  }
  return static_cast<int32_t>(b * kLogitBlock + picked);
}

void top_candidates(std::span<const float> logits, size_t count, LogitScratch& scratch) {
  // `count` blocks have a largest value of at least the count-th largest of these, so that many logits do.
  float bound = kNegInf;
  if (count < scratch.block_max.size()) {
    scratch.ordered = scratch.block_max;
    const auto nth = scratch.ordered.begin() + static_cast<ptrdiff_t>(std::max<size_t>(count, 1) - 1);
    std::nth_element(scratch.ordered.begin(), nth, scratch.ordered.end(), std::greater<>());
    bound = *nth;
  }
  auto& out = scratch.candidates;
  out.clear();
  for (size_t b = 0; b < scratch.block_max.size(); ++b) {
    if (scratch.block_max[b] < bound) continue;
    const auto block = block_of(logits, b);
    for (size_t i = 0; i < block.size(); ++i) {
      if (block[i] >= bound && block[i] > kNegInf)
        out.push_back({block[i], static_cast<int32_t>(b * kLogitBlock + i)});
    }
  }
  if (out.size() > count) {
    std::nth_element(out.begin(), out.begin() + static_cast<ptrdiff_t>(count), out.end(), better);
    out.resize(count);
  }
  std::sort(out.begin(), out.end(), better);
}

}  // namespace bifocal::engine
