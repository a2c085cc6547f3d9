#include "model/weight_list.h"

#include <fmt/format.h>

namespace bifocal::model {

int64_t ExpectedWeight::num_elements() const {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

LayerNames::LayerNames(const ModelSpec& spec, size_t layer)
    : prefix_(fmt::format("{}{}.", spec.names.layer_prefix, layer)) {}

}  // namespace bifocal::model
