#include "model/mlp_block.h"

#include "kernels/cpu/elementwise.h"

namespace bifocal::model {

MlpNames dense_mlp_names(const WeightNames& names) {
  return {names.gate_proj, names.up_proj, names.down_proj};
}

void list_mlp_weights(const MlpNames& names, const MlpSpec& mlp, int64_t hidden, WeightList& list) {
  list.linear(names.gate, mlp.intermediate_size, hidden, mlp.bias);
  list.linear(names.up, mlp.intermediate_size, hidden, mlp.bias);
  list.linear(names.down, hidden, mlp.intermediate_size, mlp.bias);
}

Expected<MlpWeights> load_mlp_weights(const LayerNames& layer, const MlpNames& names, const MlpSpec& mlp,
                                      int64_t hidden, WeightLoader& loader) {
  const int64_t inner = mlp.intermediate_size;
  MlpWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(
      out.gate_up,
      loader.matrix({{layer.weight(names.gate), inner}, {layer.weight(names.up), inner}}, hidden));
  BIFOCAL_ASSIGN_OR_RETURN(out.down, loader.matrix({{layer.weight(names.down), hidden}}, inner));
  if (mlp.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.gate_up_bias,
                             loader.vector({{layer.bias(names.gate), inner}, {layer.bias(names.up), inner}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.down_bias, loader.vector({{layer.bias(names.down), hidden}}));
  }
  return out;
}

void mlp(const MlpWeights& weights, const MlpArgs& args, const RowOps& ops) {
  const int64_t hidden = weights.down.n();
  const int64_t inner = weights.down.k();
  ops.multiply(args.x, hidden, args.num_rows, weights.gate_up, weights.gate_up_bias, args.wide, 2 * inner);
  kernels::cpu::silu_mul(args.wide, 2 * inner, args.num_rows, inner, args.narrow, inner, ops.pool());
  ops.multiply(args.narrow, inner, args.num_rows, weights.down, weights.down_bias, args.residual, hidden,
               true);
}

}  // namespace bifocal::model
