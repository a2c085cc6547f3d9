#include "attention/work.h"

#include <algorithm>

namespace bifocal::attention {

BatchWork batch_work(const AttentionDesc& desc, const AttentionBatch& batch) {
  BatchWork work;
  int64_t pairs = 0;
  int64_t keys = 0;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    const int64_t rows = batch.q_len[seq];
    const int64_t kv_len = batch.kv_len[seq];
    if (rows == 0) continue;
    work.rows += rows;
    if (!batch.causal) {
      pairs += rows * kv_len;
      keys += kv_len;
      continue;
    }
    // Row i sees min(before + i + 1, window) keys; the first `growing` rows are below the window.
    const int64_t before = kv_len - rows;
    const int64_t window = desc.window > 0 ? desc.window : kv_len;
    const int64_t growing = std::clamp<int64_t>(window - before, 0, rows);
    pairs += growing * before + growing * (growing + 1) / 2 + (rows - growing) * window;
    keys += std::min(kv_len, std::min(before + 1, window) + rows - 1);
  }
  // A latent's values are part of its key.
  const int64_t cached_dim =
      desc.kind == Kind::mla ? desc.head_dim_k : int64_t{desc.head_dim_k} + desc.head_dim_v;
  work.flops = 2 * pairs * desc.num_heads * (int64_t{desc.head_dim_k} + desc.head_dim_v);
  work.bytes = keys * desc.num_kv_heads * cached_dim * static_cast<int64_t>(size_of(desc.kv_dtype));
  return work;
}

}  // namespace bifocal::attention
