#include "bench/repeats.h"

#include <algorithm>

namespace bifocal::bench {

Measured summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  Measured out;
  if (n == 0) return out;
  out.median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  out.spread = out.median > 0 ? (values.back() - values.front()) / out.median : 0;
  return out;
}

}  // namespace bifocal::bench
