#include "model/expected_weights.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "model/gqa_block.h"
#include "model/mla_block.h"
#include "model/mlp_block.h"
#include "model/moe_block.h"

namespace bifocal::model {
namespace {

using weights::Checkpoint;
using weights::quoted;

// Tensors that a checkpoint may carry without our using them.
bool is_ignorable(const ModelSpec& spec, std::string_view name) {
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  if (!name.starts_with(spec.names.layer_prefix)) return false;
  name.remove_prefix(spec.names.layer_prefix.size());
  uint64_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' &&
         layer >= spec.layers.size();
}

// The expected shape in the terms of config.json, for messages.
Status check_tensor(const Checkpoint& checkpoint, const ExpectedWeight& expected) {
  const weights::TensorInfo* info = checkpoint.find(expected.name);
  if (info == nullptr) {
    return data_loss(fmt::format("{}: tensor {} is missing; expected {} from config.json",
                                 checkpoint.directory(), quoted(expected.name),
                                 shape_to_string(expected.shape)));
  }
  const std::string& path = checkpoint.path_of(expected.name);
  if (info->shape != expected.shape) {
    return data_loss(fmt::format("{}: tensor {} has shape {}, expected {} from config.json", path,
                                 quoted(expected.name), shape_to_string(info->shape),
                                 shape_to_string(expected.shape)));
  }
  if (!is_loadable(info->dtype)) {
    return unsupported(fmt::format("{}: tensor {} is {}, expected f32, f16 or bf16", path,
                                   quoted(expected.name), to_string(info->dtype)));
  }
  return {};
}

// A tied model whose file has an output matrix all the same.
Status resolve_tied_output(ModelSpec& spec, const Checkpoint& checkpoint) {
  const WeightNames& names = spec.names;
  if (!spec.tied_output || !checkpoint.has(names.output)) return {};
  const std::vector<int64_t> shape = {spec.vocab_size, spec.hidden_size};
  BIFOCAL_RETURN_IF_ERROR(check_tensor(checkpoint, {names.output, shape}));
  BIFOCAL_RETURN_IF_ERROR(check_tensor(checkpoint, {names.embedding, shape}));
  if (checkpoint.same_values(names.output, names.embedding)) return {};
  spec.tied_output = false;
  return {};
}

}  // namespace

bool is_loadable(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

std::vector<ExpectedWeight> expected_weights(const ModelSpec& spec) {
  const WeightNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  std::vector<ExpectedWeight> out;
  out.push_back({names.embedding, {spec.vocab_size, hidden}});
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    WeightList list(LayerNames(spec, i), out);
    list.vector(names.attention_norm, hidden);
    if (layer.mla) {
      list_mla_weights(spec, i, list);
    } else {
      list_gqa_weights(spec, i, list);
    }
    list.linear(names.o_proj, hidden, layer.attention_out_dim(), layer.attention_out_bias());
    list.vector(names.mlp_norm, hidden);
    if (layer.moe) {
      list_moe_weights(spec, i, list);
    } else {
      list_mlp_weights(dense_mlp_names(names), layer.mlp, hidden, list);
    }
  }
  out.push_back({names.final_norm, {hidden}, true});
  if (!spec.tied_output) out.push_back({names.output, {spec.vocab_size, hidden}});
  return out;
}

void resolve_expert_layout(ModelSpec& spec, const Checkpoint& checkpoint) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    auto& moe = spec.layers[i].moe;
    if (!moe || moe->layout != ExpertLayout::separate) continue;
    const std::string fused = LayerNames(spec, i).plain(spec.names.experts + ".gate_up_proj");
    if (checkpoint.has(fused)) moe->layout = ExpertLayout::fused;
  }
}

Status check_weights(ModelSpec& spec, const Checkpoint& checkpoint) {
  resolve_expert_layout(spec, checkpoint);
  BIFOCAL_RETURN_IF_ERROR(resolve_tied_output(spec, checkpoint));
  if (!spec.tied_output && !checkpoint.has(spec.names.output)) {
    return data_loss(
        fmt::format("{}: tensor {} is missing, and tie_word_embeddings is not true in config.json",
                    checkpoint.directory(), quoted(spec.names.output)));
  }
  std::set<std::string, std::less<>> known = {spec.names.output};
  for (const ExpectedWeight& expected : expected_weights(spec)) {
    BIFOCAL_RETURN_IF_ERROR(check_tensor(checkpoint, expected));
    known.insert(expected.name);
  }
  for (const auto& [name, entry] : checkpoint.entries()) {
    if (known.count(name) > 0 || is_ignorable(spec, name)) continue;
    return data_loss(fmt::format("{}: tensor {} is not part of {} as config.json describes it",
                                 checkpoint.path_of(name), quoted(name), spec.architecture));
  }
  return {};
}

uint64_t planned_weight_bytes(const ModelSpec& spec, DType dtype) {
  uint64_t bytes = 0;
  for (const ExpectedWeight& weight : expected_weights(spec)) {
    bytes += static_cast<uint64_t>(weight.num_elements()) * (weight.in_f32 ? sizeof(float) : size_of(dtype));
  }
  for (const LayerSpec& layer : spec.layers) {
    if (layer.mla) bytes += static_cast<uint64_t>(mla_copied_elements(*layer.mla)) * size_of(dtype);
  }
  return bytes;
}

}  // namespace bifocal::model
