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

  // Nobody reads logits. Only then may a step be planned behind this one before its tokens are known: what
  // the host chooses itself must first be sent to the device. These are rows with penalties (they depend on
  // the tokens before), a bias, end tokens banned until min_new_tokens, or log-probabilities, and second
  // choices of one row (n > 1).
  bool all_on_device() const;

  // [R], as model::StepRows has them; valid until the next call of reset().
  std::span<const uint8_t> read_logits() const { return read_logits_; }
  std::span<const kernels::SampleParams> sampling() const { return sampling_; }

 private:
  std::vector<uint8_t> read_logits_;
  std::vector<uint8_t> taken_;  // sampling_ is some task's
  std::vector<kernels::SampleParams> sampling_;
};

}  // namespace bifocal::engine
