// The online softmax over one block of keys, and what follows it. Templates over a Simd; see attention.h.
#pragma once

#include <limits>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/key_block.h"

namespace bifocal::kernels::cpu {

constexpr float kLog2E = 1.44269504088896341F;
constexpr float kLn2 = 0.69314718055994531F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// 2^x for x <= 0: 2^0 is exactly 1, 2^-inf exactly 0, NaN stays NaN. Minimax polynomial of degree 6 on
// [-0.5, 0.5] with value 1 at 0; relative error below 1.2e-7.
template <class S>
typename S::V exp2_nonpositive(typename S::V x) {
  const auto n = S::round(x);
  const auto f = S::sub(x, n);
  auto p = S::set1(0x1.470b4ap-13F);
  p = S::fma(p, f, S::set1(0x1.5f7276p-10F));
  p = S::fma(p, f, S::set1(0x1.3b270ep-7F));
  p = S::fma(p, f, S::set1(0x1.c6ae72p-5F));
  p = S::fma(p, f, S::set1(0x1.ebfbe2p-3F));
  p = S::fma(p, f, S::set1(0x1.62e432p-1F));
  p = S::fma(p, f, S::set1(1.0F));
  return S::zero_where_less(S::scale_by_power_of_two(p, n), x, S::set1(-126.0F));
}

// limit * tanh(x), from 2^(-2|x| log2 e) so that it neither overflows nor loses the sign.
template <class S>
typename S::V softcap_logits(typename S::V x, float limit) {
  const auto negated = S::sub(S::zero(), x);
  const auto magnitude = S::max(negated, x);  // NaN stays NaN
  const auto e = exp2_nonpositive<S>(S::mul(magnitude, S::set1(-2.0F * kLog2E)));
  const auto one = S::set1(1.0F);
  const auto tanh = S::div(S::sub(one, e), S::add(one, e));
  // The sign: x / |x| would be NaN at 0, and lanes of a comparison differ between units.
  const auto positive = S::zero_where_less(tanh, x, S::zero());
  const auto negative = S::zero_where_less(tanh, negated, S::zero());
  return S::mul(S::sub(positive, negative), S::set1(limit));
}

// logits [kAttentionKeyBlock] of one row become 2^(logit - m) in place; returns the factor that the row's
// earlier sum and accumulator shrink by. `visible` is relative to the block.
template <class S>
float softmax_block(float* logits, KeyRange visible, float softcap, float* max, float* sum) {
  constexpr int kVectors = kAttentionKeyBlock / S::kWidth;
  typename S::V v[extent(kVectors)];
  auto largest = S::set1(-kInfinity);
  for (int i = 0; i < kVectors; ++i) {
    v[i] = S::load(logits + i * S::kWidth);
    if (softcap != 0) v[i] = softcap_logits<S>(v[i], softcap);
    if (visible.begin > i * S::kWidth || visible.end < (i + 1) * S::kWidth) {
      v[i] = S::keep_range(v[i], visible.begin - i * S::kWidth, visible.end - i * S::kWidth);
    }
    largest = S::max(largest, v[i]);
  }
  const float old_max = *max;
  float new_max = S::reduce_max(largest);
  if (!(new_max > old_max)) new_max = old_max;
  // A row that has seen no key has nothing to shrink; -inf minus -inf must not become NaN.
  const float reference = new_max == -kInfinity ? 0.0F : new_max;
  const auto shift = S::set1(reference);
  auto total = S::zero();
  for (int i = 0; i < kVectors; ++i) {
    v[i] = exp2_nonpositive<S>(S::sub(v[i], shift));
    S::store(logits + i * S::kWidth, v[i]);
    total = S::add(total, v[i]);
  }
  float shrink = 1.0F;
  if (old_max != new_max) {
    float lane[extent(S::kWidth)];
    S::store(lane, exp2_nonpositive<S>(S::set1(old_max - reference)));
    shrink = lane[0];
  }
  *max = new_max;
  *sum = *sum * shrink + S::reduce_add(total);
  return shrink;
}

// A row of `dim` elements as floats, the rest of the padded row zero.
template <class S, DType kDType>
void load_row(const char* p, int dim, float* out) {
  int d = 0;
  for (; d + S::kWidth <= dim; d += S::kWidth) {
    S::store(out + d, S::template load_kv<kDType>(p + d * kElementBytes<kDType>));
  }
  for (; d < dim; ++d) out[d] = load_element<kDType>(p, d);
  for (; d < padded_head_dim(dim); ++d) out[d] = 0;
}

template <class S>
void clear_state(const AttentionState& state, int num_rows, int head_dim_v) {
  const int64_t columns = padded_head_dim(head_dim_v);
  for (int64_t i = 0; i < num_rows * columns; i += S::kWidth) S::store(state.acc + i, S::zero());
  for (int r = 0; r < num_rows; ++r) {
    state.max[r] = -kInfinity;
    state.sum[r] = 0;
  }
}

// 2^x of one number, x <= 0.
template <class S>
float exp2_scalar(float x) {
  float lane[extent(S::kWidth)];
  S::store(lane, exp2_nonpositive<S>(S::set1(x)));
  return lane[0];
}

template <class S>
void fold(const AttentionState& state, const AttentionState& part, int num_rows, int head_dim_v) {
  const int columns = padded_head_dim(head_dim_v);
  for (int r = 0; r < num_rows; ++r) {
    if (part.max[r] == -kInfinity) continue;
    float max = state.max[r];
    if (!(max > part.max[r])) max = part.max[r];
    const float state_weight = exp2_scalar<S>(state.max[r] - max);
    const float part_weight = exp2_scalar<S>(part.max[r] - max);
    state.sum[r] = state.sum[r] * state_weight + part.sum[r] * part_weight;
    state.max[r] = max;
    float* a = state.acc + static_cast<int64_t>(r) * columns;
    const float* b = part.acc + static_cast<int64_t>(r) * columns;
    for (int d = 0; d < columns; d += S::kWidth) {
      const auto scaled = S::mul(S::load(a + d), S::set1(state_weight));
      S::store(a + d, S::fma(S::load(b + d), S::set1(part_weight), scaled));
    }
  }
}

template <class S>
void finish(const FinishArgs& args) {
  const int columns = padded_head_dim(args.head_dim_v);
  for (int r = 0; r < args.num_rows; ++r) {
    const int token = (args.row_begin + r) / args.group;
    const int head = (args.row_begin + r) % args.group;
    float max = args.state.max[r];
    float sum = args.state.sum[r];
    float weight = 1.0F;
    if (args.sinks != nullptr) {
      const float sink = args.sinks[head] * kLog2E;
      const float old_max = max;
      if (!(max > sink)) max = sink;
      weight = exp2_scalar<S>(old_max - max);
      sum = sum * weight + exp2_scalar<S>(sink - max);
    }
    const float scale = sum == 0.0F ? 0.0F : weight / sum;
    float* out = args.out + token * args.out_stride + static_cast<int64_t>(head) * args.head_dim_v;
    const float* acc = args.state.acc + static_cast<int64_t>(r) * columns;
    // Adding zero turns -0 into 0: whether a masked key was skipped or weighed by zero must not show.
    const auto factor = S::set1(scale);
    int d = 0;
    for (; d + S::kWidth <= args.head_dim_v; d += S::kWidth) {
      S::store(out + d, S::add(S::mul(S::load(acc + d), factor), S::zero()));
    }
    if (d < args.head_dim_v) {
      float tail[extent(S::kWidth)];
      S::store(tail, S::add(S::mul(S::load(acc + d), factor), S::zero()));
      for (int i = 0; d < args.head_dim_v; ++d, ++i) out[d] = tail[i];
    }
    if (args.lse != nullptr) {
      args.lse[token * args.lse_stride + head] =
          sum == 0.0F ? -kInfinity : (max + __builtin_log2f(sum)) * kLn2;
    }
  }
}

}  // namespace bifocal::kernels::cpu
