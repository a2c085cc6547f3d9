#include "model/decoder_weights.h"

#include <utility>

#include "model/weight_loader.h"

namespace bifocal::model {
namespace {

Expected<LayerWeights> load_layer(const ModelSpec& spec, size_t index, WeightLoader& loader) {
  const LayerNames name(spec, index);
  const WeightNames& names = spec.names;
  const LayerSpec& layer = spec.layers[index];
  const int64_t hidden = spec.hidden_size;
  LayerWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.attention_norm, loader.vector({{name.plain(names.attention_norm), hidden}}));
  if (layer.mla) {
    BIFOCAL_ASSIGN_OR_RETURN(out.mla, load_mla_weights(spec, index, loader));
  } else {
    BIFOCAL_ASSIGN_OR_RETURN(out.gqa, load_gqa_weights(spec, index, loader));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.attn_output,
                           loader.matrix({{name.weight(names.o_proj), hidden}}, layer.attention_out_dim()));
  if (layer.attention_out_bias()) {
    BIFOCAL_ASSIGN_OR_RETURN(out.attn_output_bias, loader.vector({{name.bias(names.o_proj), hidden}}));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.mlp_norm, loader.vector({{name.plain(names.mlp_norm), hidden}}));
  if (layer.moe) {
    BIFOCAL_ASSIGN_OR_RETURN(out.moe, load_moe_weights(spec, index, loader));
  } else {
    BIFOCAL_ASSIGN_OR_RETURN(out.mlp,
                             load_mlp_weights(name, dense_mlp_names(names), layer.mlp, hidden, loader));
  }
  return out;
}

}  // namespace

Expected<DecoderWeights> load_weights(const ModelSpec& spec, weights::WeightSource& source, DType dtype,
                                      ThreadPool& pool, Progress* progress) {
  WeightLoader loader(source, dtype, pool, progress);
  DecoderWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.embedding,
                           loader.matrix({{spec.names.embedding, spec.vocab_size}}, spec.hidden_size));
  out.layers.reserve(spec.layers.size());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(LayerWeights layer, load_layer(spec, i, loader));
    out.layers.push_back(std::move(layer));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.final_norm, loader.vector({{spec.names.final_norm, spec.hidden_size}}));
  if (!spec.tied_output) {
    BIFOCAL_ASSIGN_OR_RETURN(out.output,
                             loader.matrix({{spec.names.output, spec.vocab_size}}, spec.hidden_size));
  }
  out.num_bytes = loader.num_bytes();
  return out;
}

}  // namespace bifocal::model
