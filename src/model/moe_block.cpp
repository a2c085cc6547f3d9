#include "model/moe_block.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/moe.h"

namespace bifocal::model {
namespace {

namespace cpu = kernels::cpu;

MlpNames expert_names(const WeightNames& names, int expert) {
  const std::string prefix = fmt::format("{}.{}", names.experts, expert);
  return {prefix + ".gate_proj", prefix + ".up_proj", prefix + ".down_proj"};
}

MlpNames shared_names(const WeightNames& names) {
  const std::string& prefix = names.shared_expert;
  return {prefix + ".gate_proj", prefix + ".up_proj", prefix + ".down_proj"};
}

struct FusedShapes {
  std::vector<int64_t> gate_up, down;
};
FusedShapes fused_shapes(const MoeSpec& moe, int64_t hidden) {
  const int64_t inner = moe.intermediate_size;
  if (moe.layout == ExpertLayout::fused_in_out) {
    return {{moe.num_experts, hidden, 2 * inner}, {moe.num_experts, inner, hidden}};
  }
  return {{moe.num_experts, 2 * inner, hidden}, {moe.num_experts, hidden, inner}};
}

// Expert e's matrix [N, K] of a fused tensor.
TensorView expert_matrix(const TensorView& fused, int64_t expert, ExpertLayout layout) {
  const size_t n = layout == ExpertLayout::fused_in_out ? 2 : 1;
  TensorView out = fused;
  out.rank = 2;
  out.data = fused.as<std::byte>() + expert * fused.strides[0] * static_cast<int64_t>(size_of(fused.dtype));
  out.shape = {fused.shape[n], fused.shape[3 - n]};
  out.strides = {fused.strides[n], fused.strides[3 - n]};
  return out;
}

// Rows first, first + step, ...
TensorView pick_rows(const TensorView& matrix, int64_t first, int64_t step, int64_t count) {
  TensorView out = matrix;
  out.data = matrix.as<std::byte>() + first * matrix.strides[0] * static_cast<int64_t>(size_of(matrix.dtype));
  out.shape[0] = count;
  out.strides[0] = step * matrix.strides[0];
  return out;
}

// Expert e's part of biases [E, N]; where gate and up lie in turns, gate's values first.
Expected<Tensor> expert_bias(const Tensor& biases, int64_t expert, bool in_turns) {
  const int64_t n = biases.view().shape[1];
  BIFOCAL_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(DType::f32, {n}));
  const float* from = biases.view().as<float>() + expert * n;
  float* to = out.view().as<float>();
  for (int64_t i = 0; i < n; ++i) to[in_turns ? i % 2 * (n / 2) + i / 2 : i] = from[i];
  return out;
}

Status load_fused_experts(const ModelSpec& spec, const MoeSpec& moe, const LayerNames& name,
                          WeightLoader& loader, std::vector<MlpWeights>& experts) {
  const int64_t inner = moe.intermediate_size;
  const bool in_turns = moe.layout == ExpertLayout::fused_in_out;
  const std::string gate_up_name = name.plain(spec.names.experts + ".gate_up_proj");
  const std::string down_name = name.plain(spec.names.experts + ".down_proj");
  const FusedShapes shapes = fused_shapes(moe, spec.hidden_size);
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView gate_up, loader.view(gate_up_name, shapes.gate_up));
  for (size_t e = 0; e < experts.size(); ++e) {
    const TensorView matrix = expert_matrix(gate_up, static_cast<int64_t>(e), moe.layout);
    const TensorView halves[] = {pick_rows(matrix, 0, in_turns ? 2 : 1, inner),
                                 pick_rows(matrix, in_turns ? 1 : inner, in_turns ? 2 : 1, inner)};
    BIFOCAL_ASSIGN_OR_RETURN(experts[e].gate_up, loader.pack(halves));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView down, loader.view(down_name, shapes.down));
  for (size_t e = 0; e < experts.size(); ++e) {
    const TensorView matrix = expert_matrix(down, static_cast<int64_t>(e), moe.layout);
    BIFOCAL_ASSIGN_OR_RETURN(experts[e].down, loader.pack({&matrix, 1}));
  }
  if (!moe.bias) return {};
  const int64_t gate_up_shape[] = {moe.num_experts, 2 * inner};
  const int64_t down_shape[] = {moe.num_experts, spec.hidden_size};
  BIFOCAL_ASSIGN_OR_RETURN(const Tensor gate_up_bias, loader.values(gate_up_name + "_bias", gate_up_shape));
  BIFOCAL_ASSIGN_OR_RETURN(const Tensor down_bias, loader.values(down_name + "_bias", down_shape));
  for (size_t e = 0; e < experts.size(); ++e) {
    const auto expert = static_cast<int64_t>(e);
    BIFOCAL_ASSIGN_OR_RETURN(experts[e].gate_up_bias, expert_bias(gate_up_bias, expert, in_turns));
    BIFOCAL_ASSIGN_OR_RETURN(experts[e].down_bias, expert_bias(down_bias, expert, false));
  }
  return {};
}

void activate(const MoeSpec& spec, const float* gate_up, int64_t num_rows, float* out, ThreadPool& pool) {
  const int64_t inner = spec.intermediate_size;
  if (spec.activation == Activation::clamped_swiglu) {
    cpu::clamped_swiglu(gate_up, 2 * inner, num_rows, inner, spec.swiglu_limit, out, inner, pool);
  } else {
    cpu::silu_mul(gate_up, 2 * inner, num_rows, inner, out, inner, pool);
  }
}

cpu::RouterRule router_rule(const MoeSpec& spec, const MoeWeights& weights) {
  cpu::RouterRule rule;
  rule.num_experts = spec.num_experts;
  rule.experts_per_token = spec.experts_per_token;
  rule.scoring = spec.router.scoring;
  rule.choice_bias = weights.choice_bias.empty() ? nullptr : weights.choice_bias.view().as<float>();
  rule.num_groups = spec.router.num_groups;
  rule.groups_per_token = spec.router.groups_per_token;
  rule.group_score = spec.router.group_score;
  rule.renormalize = spec.router.renormalize;
  rule.scale = spec.router.scale;
  return rule;
}

struct Widest {
  int64_t experts = 0;            // E
  int64_t experts_per_token = 0;  // K
};
Widest widest(const ModelSpec& spec) {
  Widest out;
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.moe) continue;
    out.experts = std::max<int64_t>(out.experts, layer.moe->num_experts);
    out.experts_per_token = std::max<int64_t>(out.experts_per_token, layer.moe->experts_per_token);
  }
  return out;
}

}  // namespace

void list_moe_weights(const ModelSpec& spec, size_t layer, WeightList& list) {
  const MoeSpec& moe = *spec.layers[layer].moe;
  const WeightNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  list.tensor(names.router + ".weight", {moe.num_experts, hidden}, true);
  if (moe.router.bias) list.vector(names.router + ".bias", moe.num_experts);
  if (moe.router.choice_bias) list.vector(names.choice_bias, moe.num_experts);
  if (moe.layout == ExpertLayout::separate) {
    const MlpSpec expert{moe.intermediate_size, moe.bias};
    for (int e = 0; e < moe.num_experts; ++e) list_mlp_weights(expert_names(names, e), expert, hidden, list);
  } else {
    const FusedShapes shapes = fused_shapes(moe, hidden);
    list.tensor(names.experts + ".gate_up_proj", shapes.gate_up);
    list.tensor(names.experts + ".down_proj", shapes.down);
    if (moe.bias) {
      list.tensor(names.experts + ".gate_up_proj_bias", {moe.num_experts, 2 * moe.intermediate_size}, true);
      list.tensor(names.experts + ".down_proj_bias", {moe.num_experts, hidden}, true);
    }
  }
  if (moe.shared_intermediate_size > 0) {
    list_mlp_weights(shared_names(names), {moe.shared_intermediate_size, false}, hidden, list);
  }
}

Expected<MoeWeights> load_moe_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader) {
  const MoeSpec& moe = *spec.layers[layer].moe;
  const WeightNames& names = spec.names;
  const LayerNames name(spec, layer);
  const int64_t hidden = spec.hidden_size;
  MoeWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.router,
                           loader.matrix({{name.weight(names.router), moe.num_experts}}, hidden, DType::f32));
  if (moe.router.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.router_bias, loader.vector({{name.bias(names.router), moe.num_experts}}));
  }
  if (moe.router.choice_bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.choice_bias,
                             loader.vector({{name.plain(names.choice_bias), moe.num_experts}}));
  }
  out.experts.resize(static_cast<size_t>(moe.num_experts));
  if (moe.layout == ExpertLayout::separate) {
    const MlpSpec expert{moe.intermediate_size, moe.bias};
    for (int e = 0; e < moe.num_experts; ++e) {
      BIFOCAL_ASSIGN_OR_RETURN(out.experts[static_cast<size_t>(e)],
                               load_mlp_weights(name, expert_names(names, e), expert, hidden, loader));
    }
  } else {
    BIFOCAL_RETURN_IF_ERROR(load_fused_experts(spec, moe, name, loader, out.experts));
  }
  if (moe.shared_intermediate_size > 0) {
    const MlpSpec shared{moe.shared_intermediate_size, false};
    BIFOCAL_ASSIGN_OR_RETURN(out.shared, load_mlp_weights(name, shared_names(names), shared, hidden, loader));
  }
  return out;
}

uint64_t MoeBuffers::num_bytes(const ModelSpec& spec, int64_t max_rows) {
  const Widest w = widest(spec);
  if (w.experts == 0) return 0;
  const int64_t values = max_rows * (spec.hidden_size + 4 * w.experts_per_token) + w.experts + 1;
  return static_cast<uint64_t>(values) * sizeof(float) +
         static_cast<uint64_t>(w.experts) * sizeof(cpu::GemmArgs);
}

Status MoeBuffers::reserve(const ModelSpec& spec, int64_t max_rows) {
  const Widest w = widest(spec);
  if (w.experts == 0) return {};
  const int64_t slots = max_rows * w.experts_per_token;
  max_rows_ = max_rows;
  BIFOCAL_ASSIGN_OR_RETURN(rows_, Tensor::allocate(DType::f32, {max_rows, spec.hidden_size}));
  BIFOCAL_ASSIGN_OR_RETURN(weights_, Tensor::allocate(DType::f32, {slots}));
  BIFOCAL_ASSIGN_OR_RETURN(experts_, Tensor::allocate(DType::i32, {slots}));
  BIFOCAL_ASSIGN_OR_RETURN(sorted_, Tensor::allocate(DType::i32, {slots}));
  BIFOCAL_ASSIGN_OR_RETURN(place_, Tensor::allocate(DType::i32, {slots}));
  BIFOCAL_ASSIGN_OR_RETURN(begin_, Tensor::allocate(DType::i32, {w.experts + 1}));
  products_.reserve(static_cast<size_t>(w.experts));
  return {};
}

void moe(const MoeSpec& spec, const MoeWeights& weights, const MlpArgs& args, const RowOps& ops,
         MoeBuffers& buffers) {
  if (args.num_rows == 0) return;
  BIFOCAL_CHECK_LE(args.num_rows, buffers.max_rows_);
  const int64_t hidden = weights.router.k();
  const auto num_slots = static_cast<size_t>(args.num_rows * spec.experts_per_token);
  const auto ints = [](const Tensor& tensor, size_t count) {
    return std::span(tensor.view().as<int32_t>(), count);
  };
  const auto experts = ints(buffers.experts_, num_slots);
  const auto begin = ints(buffers.begin_, static_cast<size_t>(spec.num_experts) + 1);
  const auto sorted = ints(buffers.sorted_, num_slots);
  float* const slot_weights = buffers.weights_.view().as<float>();
  float* const rows = buffers.rows_.view().as<float>();

  ops.multiply(args.x, hidden, args.num_rows, weights.router, weights.router_bias, args.wide,
               spec.num_experts);
  cpu::choose_experts(router_rule(spec, weights), args.wide, args.num_rows, experts.data(), slot_weights,
                      ops.pool());
  cpu::sort_by_expert(experts, {begin, sorted, ints(buffers.place_, num_slots)});

  cpu::CombineArgs combine;
  combine.rows = rows;
  combine.weights = slot_weights;
  combine.place = ints(buffers.place_, num_slots);
  combine.experts_per_token = spec.experts_per_token;
  combine.dim = hidden;
  combine.y = args.residual;

  // As many experts at a time as have room for their rows; an expert alone has at most one per token.
  for (size_t first = 0; first < weights.experts.size();) {
    size_t last = first + 1;
    while (last < weights.experts.size() && begin[last + 1] - begin[first] <= buffers.max_rows_) ++last;
    const auto num_rows = int64_t{begin[last]} - begin[first];
    cpu::gather_rows(args.x, hidden,
                     sorted.subspan(static_cast<size_t>(begin[first]), static_cast<size_t>(num_rows)),
                     spec.experts_per_token, rows, ops.pool());
    const auto multiply = [&](const float* a, cpu::PackedMatrix MlpWeights::*w, Tensor MlpWeights::*bias,
                              float* c) {
      buffers.products_.clear();
      for (size_t e = first; e < last; ++e) {
        if (begin[e + 1] == begin[e]) continue;
        const MlpWeights& expert = weights.experts[e];
        const int64_t row = int64_t{begin[e]} - begin[first];
        buffers.products_.push_back(RowOps::product(a + row * (expert.*w).k(), (expert.*w).k(),
                                                    begin[e + 1] - begin[e], expert.*w, expert.*bias,
                                                    c + row * (expert.*w).n(), (expert.*w).n()));
      }
      ops.multiply_grouped(buffers.products_);
    };
    multiply(rows, &MlpWeights::gate_up, &MlpWeights::gate_up_bias, args.wide);
    activate(spec, args.wide, num_rows, args.narrow, ops.pool());
    multiply(args.narrow, &MlpWeights::down, &MlpWeights::down_bias, rows);
    combine.first = begin[first];
    combine.count = static_cast<int32_t>(num_rows);
    cpu::combine_rows(combine, ops.pool());
    first = last;
  }
  if (weights.shared.down.n() > 0) mlp(weights.shared, args, ops);
}

}  // namespace bifocal::model
