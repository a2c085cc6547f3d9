// The dense feed-forward block: down(silu(gate(x)) * up(x)).
#pragma once

#include "model/row_ops.h"
#include "model/weight_list.h"
#include "model/weight_loader.h"

namespace bifocal::model {

struct MlpWeights {
  kernels::cpu::PackedMatrix gate_up;  // [2 I, hidden], gate's rows first
  Tensor gate_up_bias;                 // [2 I] or empty
  kernels::cpu::PackedMatrix down;     // [hidden, I]
  Tensor down_bias;                    // [hidden] or empty
};

void list_mlp_weights(const ModelSpec& spec, size_t layer, WeightList& list);
Expected<MlpWeights> load_mlp_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader);

struct MlpArgs {
  const float* x = nullptr;  // [T, hidden] normed
  int64_t num_rows = 0;
  float* wide = nullptr;      // [T, 2 I] working memory
  float* narrow = nullptr;    // [T, I]
  float* residual = nullptr;  // [T, hidden], added to
};
void mlp(const MlpWeights& weights, const MlpArgs& args, const RowOps& ops);

}  // namespace bifocal::model
