#include "kernels/cuda/linear_buckets.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace bifocal::kernels::cuda {
namespace {

int log2_of(int bucket) {
  int log2 = 0;
  while (1 << log2 < bucket) ++log2;
  return log2;
}

// Buckets in the order in which another asks them.
std::vector<int> nearest_first(const std::map<int, LinearChoice>& found, int bucket) {
  std::vector<int> buckets;
  for (const auto& entry : found) buckets.push_back(entry.first);
  const auto distance = [&](int other) {
    const int steps = log2_of(other) - log2_of(bucket);
    return std::pair(std::abs(steps), steps < 0);
  };
  std::sort(buckets.begin(), buckets.end(), [&](int a, int b) { return distance(a) < distance(b); });
  return buckets;
}

}  // namespace

Expected<std::map<int, LinearChoice>> choices_by_bucket(LinearRows rows, const BucketChecks& checks) {
  std::map<int, LinearChoice> found;
  std::vector<LinearRows> left;
  for (int least = rows.least; least <= rows.most;) {
    const LinearRows part{least, std::min(linear_bucket(least), rows.most)};
    const auto best = checks.best(part);
    if (best.ok()) {
      found[linear_bucket(least)] = *best;
    } else if (best.status().code() == StatusCode::unsupported) {
      left.push_back(part);
    } else {
      return best.status();
    }
    least = part.most + 1;
  }
  const std::map<int, LinearChoice> own = found;
  for (const LinearRows& part : left) {
    const int bucket = linear_bucket(part.least);
    for (const int other : nearest_first(own, bucket)) {
      BIFOCAL_ASSIGN_OR_RETURN(const bool passes, checks.passes(part, own.at(other)));
      if (!passes) continue;
      found[bucket] = own.at(other);
      break;
    }
    if (found.count(bucket) == 0) {
      return unsupported("nothing passes for " + std::to_string(part.least) + " to " +
                         std::to_string(part.most) + " rows");
    }
  }
  return found;
}

}  // namespace bifocal::kernels::cuda
