// The mixture-of-experts feed-forward block: a router chooses K of E experts for each token; their outputs
// are summed by weight, with the output of a shared expert where there is one. A step reads the weights of
// the chosen experts alone.
#pragma once

#include <vector>

#include "model/mlp_block.h"

namespace bifocal::model {

struct MoeWeights {
  kernels::cpu::PackedMatrix router;  // [E, hidden], f32 whatever the other weights are
  Tensor router_bias;                 // [E] or empty
  Tensor choice_bias;                 // [E] or empty
  std::vector<MlpWeights> experts;    // [E]
  MlpWeights shared;                  // empty when there is none
};

void list_moe_weights(const ModelSpec& spec, size_t layer, WeightList& list);
Expected<MoeWeights> load_moe_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader);

// Working memory of the block, beside what it shares with the others: for steps of up to max_rows rows.
class MoeBuffers {
 public:
  static uint64_t num_bytes(const ModelSpec& spec, int64_t max_rows);  // 0 without such layers
  Status reserve(const ModelSpec& spec, int64_t max_rows);

 private:
  friend void moe(const MoeSpec& spec, const MoeWeights& weights, const MlpArgs& args, const RowOps& ops,
                  MoeBuffers& buffers);

  int64_t max_rows_ = 0;
  Tensor rows_;                                   // [max_rows, hidden] f32, rows by expert
  Tensor weights_;                                // [max_rows, K] f32
  Tensor experts_, sorted_, place_;               // [max_rows, K] i32
  Tensor begin_;                                  // [E + 1] i32
  std::vector<kernels::cpu::GemmArgs> products_;  // room for E
};

// args.wide holds max(E, 2 I) values per row, args.narrow I; both, and the buffers, have the rows that the
// buffers were reserved for.
void moe(const MoeSpec& spec, const MoeWeights& weights, const MlpArgs& args, const RowOps& ops,
         MoeBuffers& buffers);

}  // namespace bifocal::model
