// Multi-head latent attention of a layer up to its output projection (DeepSeek-V2, arXiv 2405.04434, section
// 2.1): queries, by way of a latent of their own where the model has one; the latent and the rotated key that
// go into the cache; the attention room, which decides how the latents are used.
#pragma once

#include <vector>

#include "model/gqa_block.h"

namespace bifocal::model {

// H heads of Dn + Dr dims in q and k and Dv in v; latents of Rq and R.
struct MlaWeights {
  kernels::cpu::PackedMatrix q_a;                  // [Rq, hidden]; empty where q is projected directly
  Tensor q_a_bias, q_a_norm;                       // [Rq]
  kernels::cpu::PackedMatrix q;                    // [H (Dn + Dr), Rq or hidden]
  kernels::cpu::PackedMatrix kv_a;                 // [R + Dr, hidden]
  Tensor kv_a_bias;                                // [R + Dr]
  Tensor kv_a_norm;                                // [R]
  kernels::cpu::PackedMatrix expand;               // [H (Dn + Dv), R]: UK and UV of head 0, of head 1, ...
  std::vector<kernels::cpu::PackedMatrix> absorb;  // [H] of [R, Dn]: UK transposed
  std::vector<kernels::cpu::PackedMatrix> output;  // [H] of [Dv, R]: UV
};

void list_mla_weights(const ModelSpec& spec, size_t layer, WeightList& list);
// UK and UV are kept in both orders that the forms read: elements beyond those of list_mla_weights.
int64_t mla_copied_elements(const MlaSpec& mla);
Expected<MlaWeights> load_mla_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader);

// Floats per token row of AttendArgs::wide.
int64_t mla_row_floats(const MlaSpec& mla);
Status attend_mla(const ModelSpec& spec, const MlaWeights& weights, const AttendArgs& args,
                  const RowOps& ops);

}  // namespace bifocal::model
