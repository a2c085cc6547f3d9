// Joins the results of attention over two disjoint sets of keys, as backends give them: normalised outputs
// with their log-sum-exp. For callers that split keys themselves; backends fold unnormalised states, see
// span.h.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cpu {

struct MergeArgs {
  int64_t num_tokens = 0;  // T
  int num_heads = 0;       // H
  int head_dim_v = 0;      // Dv
  float* out = nullptr;    // [T, H, Dv], token stride out_stride; becomes the result for both sets
  int64_t out_stride = 0;
  float* lse = nullptr;  // [T, H], likewise; attention sinks, if any, belong to one of the two sets only
  const float* part_out = nullptr;
  int64_t part_out_stride = 0;
  const float* part_lse = nullptr;
};

// Rows without keys (lse -inf) have weight zero whatever their output holds; two of them give zeros and -inf.
void merge_attention(const MergeArgs& args);

}  // namespace bifocal::kernels::cpu
