#include "model/cuda_products.h"

#include <algorithm>

namespace bifocal::model {

using kernels::cuda::LinearProduct;

std::vector<CudaProduct> cuda_products(const ModelSpec& spec, int max_tokens, int max_logit_rows) {
  std::vector<CudaProduct> products;
  const auto add = [&](const std::string& name, const LinearProduct& product) {
    const auto known = std::find_if(products.begin(), products.end(),
                                    [&](const CudaProduct& other) { return other.product == product; });
    if (known == products.end()) {
      products.push_back({{name}, product});
    } else if (std::find(known->names.begin(), known->names.end(), name) == known->names.end()) {
      known->names.push_back(name);
    }
  };
  for (const LayerSpec& layer : spec.layers) {
    LinearProduct product;
    product.max_m = max_tokens;
    product.k = spec.hidden_size;
    product.n = static_cast<int>(layer.attention.qkv_rows());  // its bias is added behind it
    add("qkv", product);
    product.bias = layer.mlp.bias;
    product.n = 2 * layer.mlp.intermediate_size;
    product.gated = true;
    add("gate_up", product);
    product.gated = false;
    product.n = spec.hidden_size;
    product.k = layer.mlp.intermediate_size;
    add("down", product);
    product.bias = layer.attention_out_bias();
    product.k = static_cast<int>(layer.attention.q_rows());
    add("o", product);
  }
  LinearProduct head;
  head.max_m = max_logit_rows;
  head.n = spec.vocab_size;
  head.k = spec.hidden_size;
  head.out_dtype = DType::f32;
  add("output", head);
  return products;
}

}  // namespace bifocal::model
