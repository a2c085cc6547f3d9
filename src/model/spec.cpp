#include "model/spec.h"

#include <algorithm>

namespace bifocal::model {

int64_t LayerSpec::attention_out_dim() const {
  return mla ? int64_t{mla->num_heads} * mla->v_head_dim : attention.q_rows();
}
bool LayerSpec::attention_out_bias() const {
  return mla ? mla->bias : attention.output_bias;
}

std::vector<kv::LayerShape> kv_layer_shapes(const ModelSpec& spec) {
  std::vector<kv::LayerShape> shapes;
  shapes.reserve(spec.layers.size());
  for (const LayerSpec& layer : spec.layers) {
    if (layer.mla) {
      shapes.push_back({1, layer.mla->latent_dim(), layer.mla->kv_lora_rank, true});
    } else {
      shapes.push_back({layer.attention.num_kv_heads, layer.attention.head_dim, layer.attention.head_dim,
                        false, layer.attention.window > 0});
    }
  }
  return shapes;
}

int kv_window(const ModelSpec& spec) {
  int window = 0;
  for (const LayerSpec& layer : spec.layers)
    window = std::max(window, layer.mla ? 0 : layer.attention.window);
  return window;
}

namespace {

attention::AttentionDesc describe(const LayerSpec& layer) {
  attention::AttentionDesc desc;
  if (layer.mla) {
    desc.kind = attention::Kind::mla;
    desc.num_heads = layer.mla->num_heads;
    desc.num_kv_heads = 1;
    desc.head_dim_k = layer.mla->latent_dim();
    desc.head_dim_v = layer.mla->kv_lora_rank;
    desc.expanded_head_dim_k = layer.mla->qk_head_dim();
    desc.expanded_head_dim_v = layer.mla->v_head_dim;
    desc.scale = layer.mla->scale;
    return desc;
  }
  desc.num_heads = layer.attention.num_heads;
  desc.num_kv_heads = layer.attention.num_kv_heads;
  desc.head_dim_k = layer.attention.head_dim;
  desc.head_dim_v = layer.attention.head_dim;
  desc.window = layer.attention.window;
  desc.sinks = layer.attention.sinks;
  desc.scale = layer.attention.scale;
  return desc;
}

}  // namespace

AttentionClasses attention_classes(const ModelSpec& spec, DType kv_dtype, int page_size, DeviceKind device) {
  AttentionClasses classes;
  for (const LayerSpec& layer : spec.layers) {
    attention::AttentionDesc desc = describe(layer);
    desc.q_dtype = device == DeviceKind::cuda ? DType::bf16 : DType::f32;
    desc.kv_dtype = kv_dtype;
    desc.page_size = page_size;
    const auto found = std::find(classes.descs.begin(), classes.descs.end(), desc);
    classes.of_layer.push_back(static_cast<size_t>(found - classes.descs.begin()));
    if (found != classes.descs.end()) continue;
    classes.descs.push_back(desc);
    if (layer.mla) classes.descs.push_back(attention::expanded_class(desc));
  }
  return classes;
}

}  // namespace bifocal::model
