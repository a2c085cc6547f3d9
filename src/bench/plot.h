// Line plots as SVG: lines over logarithmic axes, one panel below the other. No dependencies, readable on
// light and dark pages.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bifocal::bench {

struct PlotLine {
  std::string name;  // lines of the same name have the same colour in every panel
  std::vector<std::pair<double, double>> points;  // x and y above 0, in order of x
};

struct PlotPanel {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<PlotLine> lines;
};

std::string render_svg(const std::vector<PlotPanel>& panels);

}  // namespace bifocal::bench
