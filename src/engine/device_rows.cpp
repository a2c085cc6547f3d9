#include "engine/device_rows.h"

#include <algorithm>

namespace bifocal::engine {

void DeviceRows::reset(int32_t num_rows) {
  const auto count = static_cast<size_t>(num_rows);
  read_logits_.assign(count, 0);
  taken_.assign(count, 0);
  sampling_.assign(count, {});
}

bool DeviceRows::add(int32_t row, const SampleTask& task) {
  const auto r = static_cast<size_t>(row);
  const auto params = device_params(task);
  if (params && task.given) return true;
  if (params && taken_.at(r) == 0) {
    taken_[r] = 1;
    sampling_[r] = *params;
    return true;
  }
  if (params && *params == sampling_.at(r)) return true;
  read_logits_.at(r) = 1;
  return false;
}

bool DeviceRows::all_on_device() const {
  return std::find(read_logits_.begin(), read_logits_.end(), 1) == read_logits_.end();
}

}  // namespace bifocal::engine
