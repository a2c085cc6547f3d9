// The online softmax over one block of keys, the fold of two states, and the last step. Internal linkage,
// like simd.h.
#pragma once

#include "kernels/cpu/attention/key_block.h"
#include "kernels/cpu/attention/lanes.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr float kLog2E = 1.44269504088896341F;
constexpr float kLn2 = 0.69314718055994531F;

// limit * tanh(x), by e^(-2|x|), which never overflows.
inline simd::Vec softcap_logits(simd::Vec x, float limit) {
  using namespace simd;
  const Vec negated = sub(zero(), x);
  const Vec e = exp2_nonpositive(mul(max(negated, x), set1(-2.0F * kLog2E)));
  const Vec tanh = div(sub(set1(1.0F), e), add(set1(1.0F), e));  // of |x|
  const Vec positive = zero_where_less(tanh, x, zero());
  const Vec negative = zero_where_less(tanh, negated, zero());
  return mul(sub(positive, negative), set1(limit));
}

// Rows whose softmax is computed together: one vector of maxima.
constexpr int kSoftmaxRows = simd::kWidth;

// One block of keys for rows [row, row + num_rows), num_rows <= kSoftmaxRows: logits [num_rows, kKeyBlock]
// become 2^(logit - m) in place, the rows' max and sum are brought up to date, and shrink[i] is the factor by
// which row i's earlier sum and accumulator shrink. Keys that a row does not see get weight zero, whatever
// their logit.
inline void softmax_block(const SpanArgs& args, int row, int num_rows, int block, float* logits,
                          float* shrink) {
  using namespace simd;
  constexpr int kVectors = kKeyBlock / kWidth;
  float* const row_max = args.state.max + row;
  float* const row_sum = args.state.sum + row;
  float block_max[kSoftmaxRows] = {};
  for (int r = 0; r < num_rows; ++r) {
    float* x = logits + r * kKeyBlock;
    const KeyRange visible = visible_in_block(args, row + r, block);
    const bool masked = visible.begin > 0 || visible.end < kKeyBlock;
    Vec largest = set1(-kInfinity);
    for (int i = 0; i < kVectors; ++i) {
      Vec v = load(x + i * kWidth);
      if (args.softcap != 0) v = softcap_logits(v, args.softcap);
      if (masked) v = keep_lanes(v, visible.begin - i * kWidth, visible.end - i * kWidth);
      if (masked || args.softcap != 0) store(x + i * kWidth, v);
      largest = max(largest, v);
    }
    block_max[r] = max_lane(largest);
  }

  const Vec old_max = load_first(row_max, num_rows);
  const Vec new_max = max(load(block_max), old_max);
  // A row that has seen no key yet: -inf minus -inf must not become NaN.
  const Vec reference = max(set1(-__FLT_MAX__), new_max);
  float shift[kSoftmaxRows];
  float factor[kSoftmaxRows];
  store_first(row_max, new_max, num_rows);
  store(shift, reference);
  store(factor, exp2_nonpositive(sub(old_max, reference)));

  for (int r = 0; r < num_rows; ++r) {
    float* x = logits + r * kKeyBlock;
    Vec total = zero();
    for (int i = 0; i < kVectors; ++i) {
      const Vec weight = exp2_nonpositive(sub(load(x + i * kWidth), set1(shift[r])));
      store(x + i * kWidth, weight);
      total = add(total, weight);
    }
    shrink[r] = factor[r];
    row_sum[r] = row_sum[r] * factor[r] + sum(total);
  }
}

inline void clear_state(const AttentionState& state, int num_rows, int head_dim_v) {
  const int64_t columns = padded_head_dim(head_dim_v);
  for (int64_t i = 0; i < num_rows * columns; i += simd::kWidth) simd::store(state.acc + i, simd::zero());
  for (int r = 0; r < num_rows; ++r) {
    state.max[r] = -simd::kInfinity;
    state.sum[r] = 0;
  }
}

inline void fold(const AttentionState& state, const AttentionState& part, int num_rows, int head_dim_v) {
  using namespace simd;
  const int columns = padded_head_dim(head_dim_v);
  for (int r = 0; r < num_rows; ++r) {
    if (part.sum[r] == 0.0F) continue;  // no key there; a NaN goes on
    const float new_max = state.max[r] > part.max[r] ? state.max[r] : part.max[r];
    const float state_weight = exp2_nonpositive(state.max[r] - new_max);
    const float part_weight = exp2_nonpositive(part.max[r] - new_max);
    state.sum[r] = state.sum[r] * state_weight + part.sum[r] * part_weight;
    state.max[r] = new_max;
    float* a = state.acc + int64_t{r} * columns;
    const float* b = part.acc + int64_t{r} * columns;
    for (int d = 0; d < columns; d += kWidth) {
      store(a + d, fma(load(b + d), set1(part_weight), mul(load(a + d), set1(state_weight))));
    }
  }
}

inline void finish(const FinishArgs& args) {
  using namespace simd;
  const int columns = padded_head_dim(args.head_dim_v);
  for (int r = 0; r < args.num_rows; ++r) {
    const int token = (args.row_begin + r) / args.group;
    const int head = (args.row_begin + r) % args.group;
    float max_logit = args.state.max[r];
    float total = args.state.sum[r];
    float weight = 1.0F;
    if (args.sinks != nullptr) {
      const float sink = args.sinks[head] * kLog2E;
      const float new_max = max_logit > sink ? max_logit : sink;
      weight = exp2_nonpositive(max_logit - new_max);
      total = total * weight + exp2_nonpositive(sink - new_max);
      max_logit = new_max;
    }
    const Vec scale = set1(total == 0.0F ? 0.0F : weight / total);
    float* out = args.out + token * args.out_stride + int64_t{head} * args.head_dim_v;
    const float* acc = args.state.acc + int64_t{r} * columns;
    // Adding zero turns -0 into 0: whether a masked key was skipped or weighed by zero must not show.
    int d = 0;
    for (; d + kWidth <= args.head_dim_v; d += kWidth) store(out + d, add(mul(load(acc + d), scale), zero()));
    if (d < args.head_dim_v)
      store_first(out + d, add(mul(load(acc + d), scale), zero()), args.head_dim_v - d);
    if (args.lse != nullptr) {
      const float lse = total == 0.0F ? -kInfinity : (max_logit + __builtin_log2f(total)) * kLn2;
      args.lse[token * args.lse_stride + head] = lse;
    }
  }
}

}  // namespace
}  // namespace bifocal::kernels::cpu
