#include "weights/weight_source.h"

namespace bifocal::weights {

Expected<TensorView> stage(Tensor& staging, DType dtype, std::span<const int64_t> shape) {
  TensorView view = TensorView::contiguous(nullptr, dtype, shape);
  if (staging.empty() || staging.view().num_bytes() < view.num_bytes()) {
    staging = Tensor();  // first give back, then take
    BIFOCAL_ASSIGN_OR_RETURN(staging, Tensor::allocate(dtype, shape));
  }
  view.data = staging.view().data;
  return view;
}

}  // namespace bifocal::weights
