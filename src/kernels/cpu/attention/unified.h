// The `unified` span kernel: one kernel for any number of rows. Many rows go through `tiled`. Few rows of
// several KV heads are computed in the order of addresses, as in `streaming`: only a panel of keys is packed,
// values are read in place. Every logit and every element of the accumulator is the same chain of fused
// multiply-adds either way, so the bits do not depend on how many rows there are. Internal linkage, like
// simd.h.
#pragma once

#include "kernels/cpu/attention/streaming.h"
#include "kernels/cpu/attention/tiled.h"

namespace bifocal::kernels::cpu {
namespace {
namespace unified {

using namespace simd;

// One register tile of rows: beyond it, packing whole blocks of keys and values pays.
constexpr int kFewRows = tiled::kRows;
constexpr int kMaxRows = tiled::kMaxRows;
constexpr int kMaxHeads = kMaxRows / kFewRows;
// Keys of one head before the next head's turn.
constexpr int kTurnKeys = 32;
static_assert(kTurnKeys % tiled::kPanelKeys == 0 && kKeyBlock % kTurnKeys == 0);

template <class Element>
void few_rows(const SpanArgs& args) {
  using Storage = typename Element::Storage;
  const int num_rows = args.num_heads * args.num_rows;
  float* logits = args.scratch;
  float* panel = logits + kMaxRows * kKeyBlock;
  clear_state(args.state, num_rows, args.head_dim_v);

  const KeyRange range = tile_keys(args);
  if (range.begin == range.end) return;
  const int64_t row_bytes = int64_t{args.head_dim_k} * static_cast<int64_t>(sizeof(Storage));
  BlockReader<Storage> reader(args, range, kTurnKeys);
  while (reader.next()) {
    const KeyBlock<Storage>& keys = reader.keys();
    reader.for_keys([&](KeyRange turn, int first_head, int num_heads, const RowsAhead* ahead) {
      const int begin = turn.begin / kTurnKeys * kTurnKeys;
      for (int n = 0; n < num_heads; ++n) {
        const int h = first_head + n;
        const Storage* rows[kTurnKeys];
        for (int i = 0; i < kTurnKeys; ++i) {
          rows[i] = streaming::at_head(keys.k[begin + i], h * args.kv.k_head_stride);
        }
        const char* const* next = ahead[n] + begin;
        tiled::pack_keys<Element>(rows, turn.end - begin, args.head_dim_k, panel, [&] {
          for (int i = 0; i < kWidth; ++i) prefetch_row(*next++, row_bytes);
        });
        tiled::multiply_keys<kFewRows>(args.num_rows, args.q + int64_t{h} * kFewRows * args.head_dim_k, panel,
                                       args.head_dim_k, turn.end - begin,
                                       logits + h * args.num_rows * kKeyBlock + begin);
      }
    });
    float shrink[kMaxRows];
    for (int row = 0; row < num_rows; row += kSoftmaxRows) {
      const int rows = num_rows - row < kSoftmaxRows ? num_rows - row : kSoftmaxRows;
      softmax_block(args, row, rows, reader.block(), logits + row * kKeyBlock, shrink + row);
    }
    reader.for_values([&](KeyRange turn, int h, int num_heads, const RowsAhead* ahead) {
      const float* first_shrink = turn.begin == keys.begin ? shrink : nullptr;
      streaming::for_row_groups(args.num_rows, num_heads, [&]<int kR, int kH>(int n, int r) {
        streaming::multiply_values<Element, kR, kH>(args, keys, turn, h + n, r, first_shrink,
                                                    r == 0 ? ahead + n : nullptr);
      });
    });
  }
  streaming::restore_order<Element>(args.state.acc, num_rows, args.head_dim_v);
}

template <class Element>
void span(const SpanArgs& args) {
  if (args.num_rows <= kFewRows) return few_rows<Element>(args);
  tiled::span<Element>(args);
}

template <class Element>
constexpr SpanKernel make_kernel() {
  return {{kMaxRows, kFewRows, kMaxHeads, kMaxRows},
          tiled::scratch_floats,
          tiled::query_floats,
          tiled::pack_queries,
          span<Element>};
}
constexpr SpanKernels kKernels{
    {make_kernel<F32>(), make_kernel<F16>(), make_kernel<Bf16>(), make_kernel<E4m3>()}};

}  // namespace unified
}  // namespace
}  // namespace bifocal::kernels::cpu
