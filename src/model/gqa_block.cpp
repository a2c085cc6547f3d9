#include "model/gqa_block.h"

#include "kernels/cpu/elementwise.h"

namespace bifocal::model {

namespace cpu = kernels::cpu;

void list_gqa_weights(const ModelSpec& spec, size_t layer, WeightList& list) {
  const AttentionSpec& attention = spec.layers[layer].attention;
  const WeightNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  list.linear(names.q_proj, attention.q_rows(), hidden, attention.qkv_bias);
  list.linear(names.k_proj, attention.kv_rows(), hidden, attention.qkv_bias);
  list.linear(names.v_proj, attention.kv_rows(), hidden, attention.qkv_bias);
  if (attention.qk_norm) {
    list.vector(names.q_norm, attention.head_dim);
    list.vector(names.k_norm, attention.head_dim);
  }
  if (attention.sinks) list.vector(names.sinks, attention.num_heads);
}

Expected<GqaWeights> load_gqa_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader) {
  const AttentionSpec& attention = spec.layers[layer].attention;
  const WeightNames& names = spec.names;
  const LayerNames name(spec, layer);
  GqaWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.qkv, loader.matrix({{name.weight(names.q_proj), attention.q_rows()},
                                                   {name.weight(names.k_proj), attention.kv_rows()},
                                                   {name.weight(names.v_proj), attention.kv_rows()}},
                                                  spec.hidden_size));
  if (attention.qkv_bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.qkv_bias, loader.vector({{name.bias(names.q_proj), attention.q_rows()},
                                                          {name.bias(names.k_proj), attention.kv_rows()},
                                                          {name.bias(names.v_proj), attention.kv_rows()}}));
  }
  if (attention.qk_norm) {
    BIFOCAL_ASSIGN_OR_RETURN(out.q_norm, loader.vector({{name.plain(names.q_norm), attention.head_dim}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.k_norm, loader.vector({{name.plain(names.k_norm), attention.head_dim}}));
  }
  if (attention.sinks) {
    BIFOCAL_ASSIGN_OR_RETURN(out.sinks, loader.vector({{name.plain(names.sinks), attention.num_heads}}));
  }
  return out;
}

Status attend_gqa(const ModelSpec& spec, const GqaWeights& weights, const AttendArgs& args,
                  const RowOps& ops) {
  const AttentionSpec& attention = spec.layers[args.layer].attention;
  const StepRows& rows = *args.rows;
  const auto num_tokens = static_cast<int64_t>(rows.token_ids.size());
  const int64_t stride = attention.qkv_rows();
  float* q = args.wide;  // [T, H D | HK D | HK D]
  float* k = q + attention.q_rows();
  float* v = k + attention.kv_rows();

  ops.multiply(args.x, spec.hidden_size, num_tokens, weights.qkv, weights.qkv_bias, q, stride);
  if (attention.qk_norm) {
    ops.norm_heads(q, stride, attention.num_heads, weights.q_norm, spec.norm_eps, num_tokens);
    ops.norm_heads(k, stride, attention.num_kv_heads, weights.k_norm, spec.norm_eps, num_tokens);
  }
  // k's heads follow q's.
  ops.rotate(spec.rope, q, stride, attention.num_heads + attention.num_kv_heads, attention.head_dim,
             rows.positions);

  attention::LayerInputs inputs;
  inputs.q = q;
  inputs.q_stride = stride;
  inputs.kv = args.cache->layer(args.layer);
  inputs.out = args.out;
  inputs.out_stride = attention.q_rows();
  if (attention.sinks) inputs.sinks = weights.sinks.view().as<float>();
  cpu::write_kv(k, stride, v, stride, rows.slots(args.cache->page_kind(args.layer)).data(), num_tokens,
                inputs.kv, ops.pool());
  return args.planner->run(args.attention_class, inputs, ops.pool());
}

}  // namespace bifocal::model
