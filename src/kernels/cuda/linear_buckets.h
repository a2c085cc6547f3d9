// One choice for each bucket of rows, all of which must pass a check: which to take, in plain C++.
#pragma once

#include <functional>
#include <map>

#include "base/status.h"
#include "kernels/cuda/linear_table.h"

namespace bifocal::kernels::cuda {

// The rows that a choice serves, first and last included.
struct LinearRows {
  int least = 0;
  int most = 0;
};

struct BucketChecks {
  // The best choice for so many rows that passes. unsupported: there is none.
  std::function<Expected<LinearChoice>(LinearRows)> best;
  // Whether another bucket's passes here.
  std::function<Expected<bool>(LinearRows, const LinearChoice&)> passes;
};

// By linear_bucket, for all rows. A bucket without a best of its own takes that of the nearest bucket that
// passes, the larger one of two. unsupported: a bucket is left without.
Expected<std::map<int, LinearChoice>> choices_by_bucket(LinearRows rows, const BucketChecks& checks);

}  // namespace bifocal::kernels::cuda
