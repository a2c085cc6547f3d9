#include "model/mla_block.h"

#include "kernels/cpu/elementwise.h"

namespace bifocal::model {

namespace cpu = kernels::cpu;

void list_mla_weights(const ModelSpec& spec, size_t layer, WeightList& list) {
  const MlaSpec& mla = *spec.layers[layer].mla;
  const WeightNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  const int64_t q_rows = int64_t{mla.num_heads} * mla.qk_head_dim();
  if (mla.q_lora_rank > 0) {
    list.linear(names.q_a_proj, mla.q_lora_rank, hidden, mla.bias);
    list.vector(names.q_a_norm, mla.q_lora_rank);
    list.linear(names.q_b_proj, q_rows, mla.q_lora_rank, false);
  } else {
    list.linear(names.q_proj, q_rows, hidden, false);
  }
  list.linear(names.kv_a_proj, mla.latent_dim(), hidden, mla.bias);
  list.vector(names.kv_a_norm, mla.kv_lora_rank);
  list.linear(names.kv_b_proj, int64_t{mla.num_heads} * (mla.qk_nope_head_dim + mla.v_head_dim),
              mla.kv_lora_rank, false);
}

int64_t mla_copied_elements(const MlaSpec& mla) {
  return int64_t{mla.num_heads} * (mla.qk_nope_head_dim + mla.v_head_dim) * mla.kv_lora_rank;
}

Expected<MlaWeights> load_mla_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader) {
  const MlaSpec& mla = *spec.layers[layer].mla;
  const WeightNames& names = spec.names;
  const LayerNames name(spec, layer);
  const int64_t hidden = spec.hidden_size;
  const int64_t q_rows = int64_t{mla.num_heads} * mla.qk_head_dim();
  MlaWeights out;
  if (mla.q_lora_rank > 0) {
    BIFOCAL_ASSIGN_OR_RETURN(out.q_a,
                             loader.matrix({{name.weight(names.q_a_proj), mla.q_lora_rank}}, hidden));
    if (mla.bias) {
      BIFOCAL_ASSIGN_OR_RETURN(out.q_a_bias, loader.vector({{name.bias(names.q_a_proj), mla.q_lora_rank}}));
    }
    BIFOCAL_ASSIGN_OR_RETURN(out.q_a_norm, loader.vector({{name.plain(names.q_a_norm), mla.q_lora_rank}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.q, loader.matrix({{name.weight(names.q_b_proj), q_rows}}, mla.q_lora_rank));
  } else {
    BIFOCAL_ASSIGN_OR_RETURN(out.q, loader.matrix({{name.weight(names.q_proj), q_rows}}, hidden));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.kv_a,
                           loader.matrix({{name.weight(names.kv_a_proj), mla.latent_dim()}}, hidden));
  if (mla.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.kv_a_bias, loader.vector({{name.bias(names.kv_a_proj), mla.latent_dim()}}));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.kv_a_norm, loader.vector({{name.plain(names.kv_a_norm), mla.kv_lora_rank}}));

  const int64_t nope = mla.qk_nope_head_dim;
  const int64_t head_rows = nope + mla.v_head_dim;
  const int64_t rank = mla.kv_lora_rank;
  const int64_t kv_b_shape[] = {mla.num_heads * head_rows, rank};
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView kv_b, loader.view(name.weight(names.kv_b_proj), kv_b_shape));
  BIFOCAL_ASSIGN_OR_RETURN(out.expand, loader.pack({&kv_b, 1}));
  for (int64_t h = 0; h < mla.num_heads; ++h) {
    TensorView uk = kv_b;
    uk.data = static_cast<std::byte*>(kv_b.data) +
              static_cast<size_t>(h * head_rows * kv_b.strides[0]) * size_of(kv_b.dtype);
    TensorView uv = uk;
    uv.data =
        static_cast<std::byte*>(uk.data) + static_cast<size_t>(nope * kv_b.strides[0]) * size_of(kv_b.dtype);
    uv.shape[0] = mla.v_head_dim;
    uk.shape[0] = rank;
    uk.shape[1] = nope;
    uk.strides[0] = kv_b.strides[1];
    uk.strides[1] = kv_b.strides[0];
    BIFOCAL_ASSIGN_OR_RETURN(cpu::PackedMatrix absorb, loader.pack({&uk, 1}));
    BIFOCAL_ASSIGN_OR_RETURN(cpu::PackedMatrix output, loader.pack({&uv, 1}));
    out.absorb.push_back(std::move(absorb));
    out.output.push_back(std::move(output));
  }
  return out;
}

int64_t mla_row_floats(const MlaSpec& mla) {
  return int64_t{mla.num_heads} * mla.qk_head_dim() + mla.latent_dim() + mla.q_lora_rank;
}

Status attend_mla(const ModelSpec& spec, const MlaWeights& weights, const AttendArgs& args,
                  const RowOps& ops) {
  const MlaSpec& mla = *spec.layers[args.layer].mla;
  const StepRows& rows = *args.rows;
  const auto num_tokens = static_cast<int64_t>(rows.token_ids.size());
  const int64_t stride = mla_row_floats(mla);
  const int64_t hidden = spec.hidden_size;
  float* q = args.wide;  // [T, H (Dn + Dr) | R + Dr | Rq]
  float* kv = q + int64_t{mla.num_heads} * mla.qk_head_dim();
  float* q_a = kv + mla.latent_dim();

  if (mla.q_lora_rank > 0) {
    ops.multiply(args.x, hidden, num_tokens, weights.q_a, weights.q_a_bias, q_a, stride);
    ops.norm(q_a, stride, weights.q_a_norm, mla.norm_eps, num_tokens, q_a, stride);
    ops.multiply(q_a, stride, num_tokens, weights.q, {}, q, stride);
  } else {
    ops.multiply(args.x, hidden, num_tokens, weights.q, {}, q, stride);
  }
  ops.multiply(args.x, hidden, num_tokens, weights.kv_a, weights.kv_a_bias, kv, stride);
  ops.norm(kv, stride, weights.kv_a_norm, mla.norm_eps, num_tokens, kv, stride);

  ops.rotate(spec.rope, q + mla.qk_nope_head_dim, stride, mla.num_heads, mla.qk_head_dim(), rows.positions);
  ops.rotate(spec.rope, kv + mla.kv_lora_rank, stride, 1, mla.qk_rope_head_dim, rows.positions);

  attention::MlaInputs inputs;
  inputs.q = q;
  inputs.q_stride = stride;
  inputs.kv = args.cache->layer(args.layer);
  inputs.projections = {&weights.expand, weights.absorb, weights.output};
  inputs.out = args.out;
  inputs.out_stride = int64_t{mla.num_heads} * mla.v_head_dim;
  cpu::write_kv(kv, stride, nullptr, 0, rows.slots(args.cache->page_kind(args.layer)).data(), num_tokens,
                inputs.kv, ops.pool());
  return args.planner->run_mla(args.attention_class, inputs, ops.pool());
}

}  // namespace bifocal::model
