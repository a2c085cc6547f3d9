// The gated feed-forward block, dense, of one expert, or of the expert that all tokens share:
// down(silu(gate(x)) * up(x)).
#pragma once

#include <string>

#include "model/row_ops.h"
#include "model/weight_list.h"
#include "model/weight_loader.h"

namespace bifocal::model {

// What its projections are called within a layer: "mlp.gate_proj".
struct MlpNames {
  std::string gate, up, down;
};
MlpNames dense_mlp_names(const WeightNames& names);

struct MlpWeights {
  kernels::cpu::PackedMatrix gate_up;  // [2 I, hidden], gate's rows first
  Tensor gate_up_bias;                 // [2 I] or empty
  kernels::cpu::PackedMatrix down;     // [hidden, I]
  Tensor down_bias;                    // [hidden] or empty
};

void list_mlp_weights(const MlpNames& names, const MlpSpec& mlp, int64_t hidden, WeightList& list);
Expected<MlpWeights> load_mlp_weights(const LayerNames& layer, const MlpNames& names, const MlpSpec& mlp,
                                      int64_t hidden, WeightLoader& loader);

struct MlpArgs {
  const float* x = nullptr;  // [T, hidden] normed
  int64_t num_rows = 0;
  float* wide = nullptr;      // [T, 2 I] working memory
  float* narrow = nullptr;    // [T, I]
  float* residual = nullptr;  // [T, hidden], added to
};
void mlp(const MlpWeights& weights, const MlpArgs& args, const RowOps& ops);

}  // namespace bifocal::model
