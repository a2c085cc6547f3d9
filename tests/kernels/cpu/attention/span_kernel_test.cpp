// The kernels below the backends: states of key ranges, their fold, and the last step.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/hash.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/merge.h"
#include "kernels/cpu/attention/reference.h"
#include "kernels/cpu/float_bits.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLog2E = 1.44269504088896341F;
constexpr int kDim = 40;  // no whole number of registers
constexpr int kRows = 5;
constexpr int kKeys = 300;

struct State {
  explicit State(int rows)
      : memory(static_cast<size_t>(attention_state_floats(rows, kDim))),
        view(make_attention_state(memory.data(), rows, kDim)) {}
  std::vector<float> memory;
  AttentionState view;
};

struct Param {
  Isa isa;
  KvElement element;
};

class SpanKernels : public testing::TestWithParam<Param> {
 protected:
  SpanKernels() {
    SplitMix64 random(3);
    const auto fill = [&](std::vector<float>& values, size_t n) {
      values.resize(n);
      // Numbers that both KV dtypes can hold.
      for (float& v : values) {
        v = float_from_bf16(bf16_from_float(static_cast<float>(2 * random.uniform() - 1)));
      }
    };
    fill(k_, kKeys * kDim);
    fill(v_, kKeys * kDim);
    fill(q_, kRows * kDim);
  }

  const AttentionKernels& kernels() const { return attention_kernels(GetParam().isa); }
  std::vector<SpanKernel> span_kernels() const {
    const KvElement element = GetParam().element;
    return {kernels().tiled.of[element], kernels().streaming.of[element], kernels().unified.of[element],
            kernels().streaming_single.of[element]};
  }

  KvView kv() {
    KvView view;
    view.element = GetParam().element;
    view.page_size = kKeys;
    view.k_token_stride = view.v_token_stride = kDim * kKvElementBytes[view.element];
    view.pages = &page_;
    if (view.element == kKvF32) {
      view.k = reinterpret_cast<const char*>(k_.data());
      view.v = reinterpret_cast<const char*>(v_.data());
      return view;
    }
    const auto narrow = [](const std::vector<float>& from, std::vector<uint16_t>* to) {
      to->clear();
      for (const float x : from) to->push_back(bf16_from_float(x));
      return reinterpret_cast<const char*>(to->data());
    };
    view.k = narrow(k_, &k_bf16_);
    view.v = narrow(v_, &v_bf16_);
    return view;
  }

  // The state of all rows after keys [begin, end), `begin` a multiple of kKeyBlock.
  State span(const SpanKernel& kernel, int begin, int end) {
    std::vector<float> packed(static_cast<size_t>(kernel.query_floats(kDim)));
    std::vector<float> scratch(static_cast<size_t>(kernel.scratch_floats(kDim, kDim)));
    const float* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = q_.data() + r * kDim;
    QueryTile tile;
    tile.rows = rows;
    tile.num_rows = kRows;
    tile.head_dim = kDim;
    tile.scale = kLog2E;
    kernel.pack_queries(tile, packed.data());
    const std::vector<int32_t> key_begin(kRows, 0);
    const std::vector<int32_t> key_end(kRows, kKeys);
    State state(kernel.limits.max_rows);
    SpanArgs args;
    args.kv = kv();
    args.head_dim_k = args.head_dim_v = kDim;
    args.num_rows = kRows;
    args.q = packed.data();
    args.key_begin = key_begin.data();
    args.key_end = key_end.data();
    args.span_begin = begin;
    args.span_end = args.fetch_end = end;
    args.state = state.view;
    args.scratch = scratch.data();
    kernel.span(args);
    return state;
  }

  struct Rows {
    std::vector<float> out = std::vector<float>(kRows * kDim);
    std::vector<float> lse = std::vector<float>(kRows);
  };
  Rows finish(const State& state, const float* sink = nullptr) const {
    Rows rows;
    FinishArgs args;
    args.state = state.view;
    args.num_rows = kRows;
    args.head_dim_v = kDim;
    args.sinks = sink;
    args.out = rows.out.data();
    args.out_stride = kDim;
    args.lse = rows.lse.data();
    args.lse_stride = 1;
    kernels().finish(args);
    return rows;
  }
  Rows reference(const float* sink = nullptr) {
    Rows rows;
    std::vector<double> scratch(kKeys + kDim);
    for (size_t r = 0; r < kRows; ++r) {
      ReferenceRowArgs args;
      args.kv = kv();
      args.head_dim_k = args.head_dim_v = kDim;
      args.q = q_.data() + r * kDim;
      args.key_end = kKeys;
      args.sink = sink;
      args.out = rows.out.data() + r * kDim;
      args.lse = rows.lse.data() + r;
      args.scratch = scratch.data();
      reference_attention_row(args);
    }
    return rows;
  }
  // Some kernels for bf16 use 16 bits of a weight.
  static double tolerance() { return GetParam().element == kKvF32 ? 1e-6 : 4e-6; }
  static void expect_near(const Rows& a, const Rows& b) {
    for (size_t i = 0; i < a.out.size(); ++i) ASSERT_NEAR(a.out[i], b.out[i], tolerance()) << i;
    for (size_t i = 0; i < a.lse.size(); ++i) ASSERT_NEAR(a.lse[i], b.lse[i], 2e-6) << i;
  }

  const int32_t page_ = 0;
  std::vector<float> k_, v_, q_;
  std::vector<uint16_t> k_bf16_, v_bf16_;
};

TEST_P(SpanKernels, FoldedRangesAreTheWhole) {
  for (const SpanKernel& kernel : span_kernels()) {
    State state = span(kernel, 0, 64);
    for (const auto& [begin, end] : {std::pair{64, 192}, std::pair{192, kKeys}}) {
      kernels().fold(state.view, span(kernel, begin, end).view, kRows, kDim);
    }
    expect_near(finish(state), reference());
  }
}

TEST_P(SpanKernels, EmptyPartsHaveWeightZero) {
  for (const SpanKernel& kernel : span_kernels()) {
    const State empty = span(kernel, 0, 0);
    const State full = span(kernel, 0, kKeys);
    State left = span(kernel, 0, kKeys);
    kernels().fold(left.view, empty.view, kRows, kDim);
    EXPECT_EQ(left.memory, full.memory);
    State right = span(kernel, 0, 0);
    kernels().fold(right.view, full.view, kRows, kDim);
    EXPECT_EQ(finish(right).out, finish(full).out);
    EXPECT_EQ(finish(right).lse, finish(full).lse);
    State none = span(kernel, 0, 0);
    kernels().fold(none.view, empty.view, kRows, kDim);
    for (const float x : finish(none).out) EXPECT_EQ(x, 0.0F);
    for (const float x : finish(none).lse) EXPECT_EQ(x, -kInfinity);
  }
}

TEST_P(SpanKernels, SinksEnterTheDenominatorOnce) {
  for (const float sink : {-30.0F, 0.5F, 40.0F}) {
    for (const SpanKernel& kernel : span_kernels()) {
      State state = span(kernel, 0, 128);
      kernels().fold(state.view, span(kernel, 128, kKeys).view, kRows, kDim);
      expect_near(finish(state, &sink), reference(&sink));
      // A sink alone: weight without a value.
      const Rows alone = finish(span(kernel, 0, 0), &sink);
      for (const float x : alone.out) EXPECT_EQ(x, 0.0F);
      for (const float x : alone.lse) EXPECT_NEAR(x, sink, 1e-5F);
    }
  }
}

// Finished results of parts of the keys, in any order, with the sink in one of them and parts without keys.
TEST_P(SpanKernels, MergedResultsAreTheWhole) {
  const float sink = 0.5F;
  const Rows whole = reference(&sink);
  const SpanKernel kernel = span_kernels()[1];
  const Rows parts[] = {finish(span(kernel, 0, 0)), finish(span(kernel, 128, kKeys)),
                        finish(span(kernel, 0, 0)), finish(span(kernel, 0, 64), &sink),
                        finish(span(kernel, 64, 128))};
  Rows merged = parts[0];
  merged.out.assign(merged.out.size(), kNan);  // of no weight
  MergeArgs args;
  args.num_tokens = kRows;
  args.num_heads = 1;
  args.head_dim_v = kDim;
  args.out = merged.out.data();
  args.lse = merged.lse.data();
  args.out_stride = args.part_out_stride = kDim;
  for (const Rows& part : parts) {
    args.part_out = part.out.data();
    args.part_lse = part.lse.data();
    merge_attention(args);
    if (&part == &parts[0]) {
      for (const float x : merged.out) EXPECT_EQ(x, 0.0F);
      for (const float x : merged.lse) EXPECT_EQ(x, -kInfinity);
    }
  }
  expect_near(merged, whole);
}

TEST_P(SpanKernels, NanStaysInItsRow) {
  q_[2 * kDim + 7] = kNan;
  for (const SpanKernel& kernel : span_kernels()) {
    State state = span(kernel, 0, 128);
    kernels().fold(state.view, span(kernel, 128, kKeys).view, kRows, kDim);
    const Rows rows = finish(state);
    const Rows expected = reference();
    for (size_t i = 0; i < rows.out.size(); ++i) {
      if (i / kDim == 2) {
        EXPECT_TRUE(std::isnan(rows.out[i])) << i;
      } else {
        ASSERT_NEAR(rows.out[i], expected.out[i], tolerance()) << i;
      }
    }
    EXPECT_TRUE(std::isnan(rows.lse[2]));
  }
}

// Logits far apart: weights underflow to exactly zero and the largest wins.
TEST_P(SpanKernels, ExtremeLogits) {
  for (int t = 0; t < kKeys; ++t) {
    for (int d = 0; d < kDim; ++d) {
      const auto i = static_cast<size_t>(t * kDim + d);
      k_[i] = d == 0 ? (t == 123 ? 1e4F : -1e4F * static_cast<float>(t % 3)) : 0.0F;
    }
  }
  for (size_t r = 0; r < kRows; ++r) q_[r * kDim] = 3.0F;
  for (const SpanKernel& kernel : span_kernels()) {
    const Rows rows = finish(span(kernel, 0, kKeys));
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t d = 0; d < kDim; ++d) EXPECT_EQ(rows.out[r * kDim + d], v_[123 * kDim + d]);
    }
  }
}

std::vector<Param> all_params() {
  std::vector<Param> params;
  for (const Isa isa : supported_isas()) {
    for (const KvElement element : {kKvF32, kKvBf16}) params.push_back({isa, element});
  }
  return params;
}

INSTANTIATE_TEST_SUITE_P(All, SpanKernels, testing::ValuesIn(all_params()), [](const auto& test) {
  return std::string(to_string(test.param.isa)) + (test.param.element == kKvF32 ? "_f32" : "_bf16");
});

}  // namespace
}  // namespace bifocal::kernels::cpu
