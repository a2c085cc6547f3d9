// The matrix products of a model's steps on a GPU.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/linear_product.h"
#include "model/spec.h"

namespace bifocal::model {

struct CudaProduct {
  std::vector<std::string> names;  // "qkv"; several where they have one shape
  kernels::cuda::LinearProduct product;
};

// Of all layers, each shape once, for steps of up to max_tokens rows; the output matrix's, for up to
// max_logit_rows, is the last.
std::vector<CudaProduct> cuda_products(const ModelSpec& spec, int max_tokens, int max_logit_rows);

}  // namespace bifocal::model
