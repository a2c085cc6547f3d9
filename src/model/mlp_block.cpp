#include "model/mlp_block.h"

#include "kernels/cpu/elementwise.h"

namespace bifocal::model {

void list_mlp_weights(const ModelSpec& spec, size_t layer, WeightList& list) {
  const MlpSpec& mlp = spec.layers[layer].mlp;
  const WeightNames& names = spec.names;
  list.linear(names.gate_proj, mlp.intermediate_size, spec.hidden_size, mlp.bias);
  list.linear(names.up_proj, mlp.intermediate_size, spec.hidden_size, mlp.bias);
  list.linear(names.down_proj, spec.hidden_size, mlp.intermediate_size, mlp.bias);
}

Expected<MlpWeights> load_mlp_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader) {
  const MlpSpec& mlp = spec.layers[layer].mlp;
  const WeightNames& names = spec.names;
  const LayerNames name(spec, layer);
  const int64_t hidden = spec.hidden_size;
  const int64_t inner = mlp.intermediate_size;
  MlpWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(
      out.gate_up,
      loader.matrix({{name.weight(names.gate_proj), inner}, {name.weight(names.up_proj), inner}}, hidden));
  BIFOCAL_ASSIGN_OR_RETURN(out.down, loader.matrix({{name.weight(names.down_proj), hidden}}, inner));
  if (mlp.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.gate_up_bias, loader.vector({{name.bias(names.gate_proj), inner},
                                                              {name.bias(names.up_proj), inner}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.down_bias, loader.vector({{name.bias(names.down_proj), hidden}}));
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
