// Where weights come from: a checkpoint's files, or numbers made up from a seed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/tensor.h"

namespace bifocal::weights {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual bool has(std::string_view name) const = 0;

  // The tensor's values in the dtype that the source keeps them in, aligned for it: a view into the source,
  // or into `staging`, which is allocated anew when it is too small. Valid until the source or staging
  // changes. Errors: not_found; invalid_argument when the source has another shape.
  virtual Expected<TensorView> read(const std::string& name, std::span<const int64_t> shape,
                                    Tensor& staging) = 0;
};

// A view of dtype and shape at the start of staging, which is replaced if it has fewer bytes.
Expected<TensorView> stage(Tensor& staging, DType dtype, std::span<const int64_t> shape);

}  // namespace bifocal::weights
