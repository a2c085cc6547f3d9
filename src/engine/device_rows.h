// Which logit rows of a step a device may choose from by itself, and which the host has to read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"

namespace bifocal::engine {

class DeviceRows {
 public:
  void reset(int32_t num_rows);

  // A task of logit row `row`; true: the device's token answers it. Rows may be shared: one way to choose for
  // each row, the first task's; a task that wants another way reads the logits.
  bool add(int32_t row, const SampleTask& task);

  // [R], as model::StepRows has them; valid until the next call of reset().
  std::span<const uint8_t> read_logits() const { return read_logits_; }
  std::span<const kernels::SampleParams> sampling() const { return sampling_; }

 private:
  std::vector<uint8_t> read_logits_;
  std::vector<uint8_t> taken_;  // sampling_ is some task's
  std::vector<kernels::SampleParams> sampling_;
};

}  // namespace bifocal::engine
