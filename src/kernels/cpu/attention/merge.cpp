#include "kernels/cpu/attention/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bifocal::kernels::cpu {

void merge_attention(const MergeArgs& args) {
  constexpr float kNoKeys = -std::numeric_limits<float>::infinity();
  for (int64_t token = 0; token < args.num_tokens; ++token) {
    for (int head = 0; head < args.num_heads; ++head) {
      float* out = args.out + token * args.out_stride + int64_t{head} * args.head_dim_v;
      const float* part = args.part_out + token * args.part_out_stride + int64_t{head} * args.head_dim_v;
      float& lse = args.lse[token * args.num_heads + head];
      const float part_lse = args.part_lse[token * args.num_heads + head];
      if (part_lse == kNoKeys) {
        if (lse == kNoKeys) std::fill_n(out, args.head_dim_v, 0.0F);
        continue;
      }
      if (lse == kNoKeys) {
        std::copy_n(part, args.head_dim_v, out);
        lse = part_lse;
        continue;
      }
      const float max = lse > part_lse ? lse : part_lse;
      const float weight = std::exp(lse - max);
      const float part_weight = std::exp(part_lse - max);
      const float total = weight + part_weight;
      for (int d = 0; d < args.head_dim_v; ++d) {
        out[d] = out[d] * (weight / total) + part[d] * (part_weight / total);
      }
      lse = max + std::log(total);
    }
  }
}

}  // namespace bifocal::kernels::cpu
