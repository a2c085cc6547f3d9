// Which kernel is fastest for each matrix product of a model, on this GPU.
#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/linear.h"
#include "model/cuda_model.h"

namespace bifocal::model {

namespace cuda = kernels::cuda;

namespace {

struct Product {
  std::string name;
  int n;  // gated: 2 I
  int k;
  bool gated;
};

// Of all layers, each shape once.
std::vector<Product> products_of(const ModelSpec& spec) {
  std::vector<Product> products;
  const auto add = [&](const Product& product) {
    const auto same = [&](const Product& known) {
      return known.n == product.n && known.k == product.k && known.gated == product.gated;
    };
    const auto known = std::find_if(products.begin(), products.end(), same);
    if (known == products.end()) {
      products.push_back(product);
    } else if (known->name.find(product.name) == std::string::npos) {
      known->name += ", " + product.name;
    }
  };
  for (const LayerSpec& layer : spec.layers) {
    add({"qkv", static_cast<int>(layer.attention.qkv_rows()), spec.hidden_size, false});
    add({"o", spec.hidden_size, static_cast<int>(layer.attention.q_rows()), false});
    add({"gate_up", 2 * layer.mlp.intermediate_size, spec.hidden_size, true});
    add({"down", spec.hidden_size, layer.mlp.intermediate_size, false});
  }
  return products;
}

}  // namespace

Expected<LinearTuning> tune_cuda_linears(const ModelSpec& spec, const std::vector<int>& rows) {
  BIFOCAL_RETURN_IF_ERROR(check_cuda_support(spec));
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear linear, cuda::Linear::create({}));
  cuda::LinearOptions fixed;
  fixed.deterministic = true;
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear deterministic, cuda::Linear::create(fixed));
  const std::vector<Product> products = products_of(spec);
  LinearTuning tuning;
  Progress progress("Timing products", products.size() * (rows.size() + 1), "shapes");
  const auto measure = [&](cuda::Linear& of, const Product& product, int m) -> Status {
    BIFOCAL_ASSIGN_OR_RETURN(const cuda::LinearMeasured measured,
                             of.measure(m, product.n, product.k, product.gated));
    LinearTuneRow& row = tuning.rows.emplace_back();
    row.name = product.name;
    row.shape = measured.choice.shape;
    row.skinny_us = measured.skinny_us;
    row.first_us = measured.first_us;
    row.best_us = measured.choice.us;
    row.best = of.describe(m, product.n, product.k, product.gated);
    progress.advance(1);
    return {};
  };
  for (const Product& product : products) {
    for (const int m : rows) BIFOCAL_RETURN_IF_ERROR(measure(linear, product, m));
    BIFOCAL_RETURN_IF_ERROR(measure(deterministic, product, 1));
  }
  tuning.table = linear.table();
  for (const cuda::LinearChoice& choice : deterministic.table().choices) tuning.table.add(choice);
  return tuning;
}

}  // namespace bifocal::model
