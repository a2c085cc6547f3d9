// How the token of one row of logits is chosen; engine/sampling_params.h has the meanings. Plain data, which
// a device reads as the host writes it.
#pragma once

#include <cstdint>

namespace bifocal::kernels {

struct SampleParams {
  uint64_t seed = 0;
  double temperature = 0.0;  // below 1e-6: greedy
  double top_p = 1.0;
  double min_p = 0.0;
  int32_t top_k = -1;    // -1 or 0: all; 1: greedy
  int32_t position = 0;  // of the token to be chosen, hashed with the seed

  friend bool operator==(const SampleParams&, const SampleParams&) = default;
};

}  // namespace bifocal::kernels
