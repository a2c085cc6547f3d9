// What can be said of models on a GPU without one.
#include <fmt/format.h>

#include <algorithm>

#include "model/cuda_model.h"

namespace bifocal::model {
namespace {

constexpr int kMaxHidden = 16384;  // of rms_norm

Status check_layer(const LayerSpec& layer) {
  if (layer.mla) return unsupported("latent attention");
  if (layer.moe) return unsupported("experts");
  if (layer.attention.head_dim != 64 && layer.attention.head_dim != 128 && layer.attention.head_dim != 256) {
    return unsupported(fmt::format("head dim {}, only 64, 128 and 256", layer.attention.head_dim));
  }
  if (layer.mlp.intermediate_size % 8 != 0) {
    return unsupported(fmt::format("intermediate size {}, only multiples of 8", layer.mlp.intermediate_size));
  }
  return {};
}

}  // namespace

Status check_cuda_support(const ModelSpec& spec) {
  if (spec.hidden_size % 8 != 0 || spec.hidden_size > kMaxHidden) {
    return unsupported(fmt::format("{} on a GPU: hidden size {} is not served, only multiples of 8 up to {}",
                                   spec.architecture, spec.hidden_size, kMaxHidden));
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const Status status = check_layer(spec.layers[i]);
    if (!status.ok()) {
      return unsupported(fmt::format("{} on a GPU: layer {} is not served: {}; use --device cpu",
                                     spec.architecture, i, status.message()));
    }
  }
  return {};
}

std::vector<int> cuda_graph_batches(const CudaGraphOptions& options, int max_seqs) {
  std::vector<int> batches;
  if (!options.enabled) return batches;
  const int largest = std::min(options.max_batch, max_seqs);
  if (!options.batches.empty()) {
    for (const int batch : options.batches) {
      if (batch <= max_seqs) batches.push_back(batch);
    }
    return batches;
  }
  for (int batch = 1; batch < largest; batch += batch < 8 ? batch : 8) batches.push_back(batch);
  batches.push_back(largest);
  return batches;
}

}  // namespace bifocal::model
