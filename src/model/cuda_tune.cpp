// Which kernel is fastest for each matrix product of a model, on this GPU.
#include <fmt/format.h>

#include <vector>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_link.h"
#include "model/cuda_model.h"
#include "model/cuda_products.h"

namespace bifocal::model {

namespace cuda = kernels::cuda;

Expected<LinearTuning> tune_cuda_linears(const ModelSpec& spec, const std::vector<int>& rows) {
  BIFOCAL_RETURN_IF_ERROR(check_cuda_support(spec));
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear linear, cuda::Linear::create({}));
  cuda::LinearOptions in_order;
  in_order.deterministic = true;
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear deterministic, cuda::Linear::create(in_order));
  std::vector<CudaProduct> products = cuda_products(spec, 1, 1);
  products.pop_back();  // the output matrix, whose result is f32
  LinearTuning tuning;
  Progress progress("Timing products", products.size() * rows.size() * 2, "shapes");
  for (const auto& [names, product] : products) {
    for (const int m : rows) {
      for (cuda::Linear* of : {&linear, &deterministic}) {
        progress.advance(1);
        if (of == &deterministic && m <= cuda::kLinkMaxM) continue;  // one link serves them
        const auto measured = of->measure(m, product.n, product.k, product.gated);
        if (!measured.ok() && measured.status().code() == StatusCode::unsupported) continue;
        BIFOCAL_RETURN_IF_ERROR(measured.status());
        LinearTuneRow& row = tuning.rows.emplace_back();
        row.name = fmt::format("{}", fmt::join(names, ", "));
        row.shape = measured->choice.shape;
        row.skinny_us = measured->skinny_us;
        row.first_us = measured->first_us;
        row.best_us = measured->choice.us;
        row.best = measured->best;
      }
    }
  }
  tuning.table = linear.table();
  for (const cuda::LinearChoice& choice : deterministic.table().choices) tuning.table.add(choice);
  return tuning;
}

}  // namespace bifocal::model
