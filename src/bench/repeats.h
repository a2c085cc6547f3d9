// Figures that were measured several times.
#pragma once

#include <vector>

namespace bifocal::bench {

struct Measured {
  double median = 0;
  double spread = 0;  // (largest - smallest) / median
};
Measured summarise(std::vector<double> values);

}  // namespace bifocal::bench
