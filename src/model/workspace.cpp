#include "model/workspace.h"

#include <algorithm>

#include "kernels/cpu/gemm.h"
#include "model/mla_block.h"
#include "model/moe_block.h"

namespace bifocal::model {

RowWidths row_widths(const ModelSpec& spec) {
  RowWidths out;
  out.hidden = spec.hidden_size;
  for (const LayerSpec& layer : spec.layers) {
    int64_t inner = layer.mlp.intermediate_size;
    if (layer.moe) {
      inner = std::max(layer.moe->intermediate_size, layer.moe->shared_intermediate_size);
      out.wide = std::max<int64_t>(out.wide, layer.moe->num_experts);
    }
    out.wide = std::max({out.wide, layer.attention.qkv_rows(), 2 * inner});
    if (layer.mla) out.wide = std::max(out.wide, mla_row_floats(*layer.mla));
    out.narrow = std::max({out.narrow, layer.attention_out_dim(), inner});
  }
  return out;
}

int64_t workspace_rows(const ModelSpec& spec, int max_tokens, int max_logit_rows) {
  int rows = std::max(max_tokens, max_logit_rows);
  // Room for all experts of one token: they are computed together.
  for (const LayerSpec& layer : spec.layers) {
    if (layer.moe) rows = std::max(rows, layer.moe->experts_per_token);
  }
  return rows;
}

uint64_t gemm_scratch_bytes(const ModelSpec& spec, DType weights, int64_t max_rows) {
  const RowWidths widths = row_widths(spec);
  size_t bytes = 0;
  // Every product's rows are residual or narrow rows.
  for (const int64_t k : {widths.hidden, widths.narrow}) {
    bytes = std::max(bytes, kernels::cpu::gemm_scratch_bytes(max_rows, k, weights));
  }
  for (const LayerSpec& layer : spec.layers) {
    if (layer.mla && layer.mla->q_lora_rank > 0) {
      bytes = std::max(bytes, kernels::cpu::gemm_scratch_bytes(max_rows, layer.mla->q_lora_rank, weights));
    }
    if (!layer.moe) continue;  // routers are kept in f32
    bytes = std::max(bytes, kernels::cpu::gemm_scratch_bytes(max_rows, widths.hidden, DType::f32));
  }
  return bytes;
}

uint64_t workspace_bytes(const ModelSpec& spec, DType weights, int max_tokens, int max_logit_rows) {
  const int64_t max_rows = workspace_rows(spec, max_tokens, max_logit_rows);
  const RowWidths widths = row_widths(spec);
  const int64_t floats = max_rows * (2 * widths.hidden + widths.wide + widths.narrow);
  return static_cast<uint64_t>(floats) * sizeof(float) + gemm_scratch_bytes(spec, weights, max_rows) +
         MoeBuffers::num_bytes(spec, max_rows);
}

}  // namespace bifocal::model
