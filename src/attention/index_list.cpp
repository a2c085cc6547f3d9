#include "attention/index_list.h"

#include <algorithm>
#include <limits>

#include "attention/span_plan.h"
#include "base/check.h"

namespace bifocal::attention {
namespace {

int64_t num_runs(int num_keys, int run) {
  return (int64_t{num_keys} + run - 1) / run;
}

}  // namespace

Status allocate_index_list(const AttentionDesc& desc, const PlanLimits& limits, PlanBuffers* buffers) {
  const int64_t runs = num_runs(limits.max_kv_len, index_run(desc.page_size));
  BIFOCAL_ASSIGN_OR_RETURN(buffers->indices, Tensor::allocate(DType::i32, {limits.max_seqs * runs}));
  return {};
}

void build_index_list(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) {
  const int run = index_run(desc.page_size);
  const int32_t runs_per_page = desc.page_size / run;
  const int32_t rows_per_page = desc.num_kv_heads * desc.page_size;
  const int32_t last_page = (std::numeric_limits<int32_t>::max() - desc.page_size) / rows_per_page;
  auto* sequences = buffers.sequences.view().as<SequencePlan>();
  int64_t next = 0;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    sequences[seq].index_begin = next;
    if (batch.q_len[seq] == 0) continue;
    const int kv_len = batch.kv_len[seq];
    const int32_t* pages = batch.page_table.data() + static_cast<int64_t>(seq) * batch.page_table_stride;
    int32_t* out = buffers.indices.view().as<int32_t>() + next;
    const auto end = static_cast<int32_t>(num_runs(kv_len, run));
    int32_t i = visible_keys(desc, batch, seq, 0).begin / run;
    int32_t page = i / runs_per_page;
    for (int32_t in_page = i % runs_per_page; i < end; ++page, in_page = 0) {
      BIFOCAL_CHECK_LE(pages[page], last_page);
      int32_t row = pages[page] * rows_per_page + in_page * run;
      for (; in_page < runs_per_page && i < end; ++in_page, row += run) out[i++] = row;
    }
    next += end;
  }
}

}  // namespace bifocal::attention
