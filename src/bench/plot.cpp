#include "bench/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace bifocal::bench {
namespace {

constexpr double kWidth = 720, kPanelHeight = 340;
constexpr double kLeft = 80, kRight = 130, kTop = 40,
                 kBottom = 50;  // margins of a panel
constexpr const char* kColours[] = {"#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2"};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

// A logarithmic axis between two places.
class Axis {
 public:
  Axis(double from, double to) : from_(from), to_(to) {}
  void include(double value) {
    low_ = std::min(low_, std::log2(value));
    high_ = std::max(high_, std::log2(value));
  }
  double place(double value) const {
    const double span = std::max(high_ - low_, 1e-9);
    return from_ + (std::log2(value) - low_) / span * (to_ - from_);
  }
  // Powers of two, no more than about eight.
  std::vector<double> ticks() const {
    std::vector<double> values;
    const double first = std::ceil(low_ - 1e-9);
    const double step = std::max(1.0, std::ceil((high_ - first) / 8));
    for (double e = first; e <= high_ + 1e-9; e += step) values.push_back(std::exp2(e));
    return values;
  }

 private:
  double from_, to_;
  double low_ = 1e300, high_ = -1e300;
};

class Drawing {
 public:
  explicit Drawing(size_t num_panels) {
    const double height = kPanelHeight * static_cast<double>(num_panels);
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 "
        "0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"sans-serif\" font-size=\"13\">\n<rect "
        "width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
        kWidth, height);
  }

  void add(const PlotPanel& panel, double top) {
    Axis x(kLeft, kWidth - kRight);
    Axis y(top + kPanelHeight - kBottom, top + kTop);
    for (const PlotLine& line : panel.lines) {
      for (const auto& [px, py] : line.points) {
        x.include(px);
        y.include(py);
      }
    }
    text(kLeft, top + 22, "start", "black", panel.title);
    text((kLeft + kWidth - kRight) / 2, top + kPanelHeight - 10, "middle", "#444", panel.x_label);
    text(8, top + kTop - 6, "start", "#444", panel.y_label);
    const double bottom = top + kPanelHeight - kBottom;
    for (const double tick : x.ticks()) {
      rule(x.place(tick), top + kTop, x.place(tick), bottom);
      text(x.place(tick), bottom + 18, "middle", "#444", fmt::format("{:g}", tick));
    }
    for (const double tick : y.ticks()) {
      rule(kLeft, y.place(tick), kWidth - kRight, y.place(tick));
      text(kLeft - 8, y.place(tick) + 4, "end", "#444", fmt::format("{:g}", tick));
    }
    double legend = top + kTop + 10;
    for (const PlotLine& line : panel.lines) {
      const char* const colour = colour_of(line.name);
      std::string points;
      for (const auto& [px, py] : line.points) {
        points += fmt::format("{:.1f},{:.1f} ", x.place(px), y.place(py));
        out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x.place(px),
                            y.place(py), colour);
      }
      out_ += fmt::format(
          "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" "
          "stroke-width=\"2\"/>\n",
          points, colour);
      text(kWidth - kRight + 12, legend, "start", colour, line.name);
      legend += 20;
    }
  }

  std::string take() { return std::move(out_) + "</svg>\n"; }

 private:
  const char* colour_of(const std::string& name) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    const auto index = static_cast<size_t>(found - names_.begin());
    if (found == names_.end()) names_.push_back(name);
    return kColours[index % std::size(kColours)];
  }
  void rule(double x1, double y1, double x2, double y2) {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" "
        "y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
        x1, y1, x2, y2);
  }
  void text(double x, double y, const char* anchor, const char* colour, const std::string& words) {
    out_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" "
        "fill=\"{}\">{}</text>\n",
        x, y, anchor, colour, escape(words));
  }

  std::string out_;
  std::vector<std::string> names_;
};

}  // namespace

std::string render_svg(const std::vector<PlotPanel>& panels) {
  Drawing drawing(panels.size());
  for (size_t i = 0; i < panels.size(); ++i) {
    drawing.add(panels[i], kPanelHeight * static_cast<double>(i));
  }
  return drawing.take();
}

}  // namespace bifocal::bench
