#include "attention/index_list.h"

#include <algorithm>
#include <limits>

#include "attention/span_plan.h"
#include "base/check.h"

namespace bifocal::attention {

Status allocate_index_list(const PlanLimits& limits, PlanBuffers* buffers) {
  BIFOCAL_ASSIGN_OR_RETURN(buffers->indices,
                           Tensor::allocate(DType::i32, {int64_t{limits.max_seqs} * limits.max_kv_len}));
  return {};
}

void build_index_list(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) {
  const int page_size = desc.page_size;
  const int64_t rows_per_page = int64_t{desc.num_kv_heads} * page_size;
  auto* sequences = buffers.sequences.view().as<SequencePlan>();
  int64_t next = 0;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    sequences[seq].index_begin = next;
    if (batch.q_len[seq] == 0) continue;
    const int kv_len = batch.kv_len[seq];
    const int32_t* pages = batch.page_table.data() + static_cast<int64_t>(seq) * batch.page_table_stride;
    int32_t* out = buffers.indices.view().as<int32_t>() + next;
    int key = visible_keys(desc, batch.q_len[seq], kv_len, 0).begin;
    while (key < kv_len) {
      const int page = key / page_size;
      const int64_t first_row = pages[page] * rows_per_page;
      BIFOCAL_CHECK_LE(first_row, std::numeric_limits<int32_t>::max() - page_size);
      const auto row_of_key_0 = static_cast<int32_t>(first_row - int64_t{page} * page_size);
      for (const int end = std::min(kv_len, (page + 1) * page_size); key < end; ++key) {
        out[key] = row_of_key_0 + key;
      }
    }
    next += kv_len;
  }
}

}  // namespace bifocal::attention
