#include "text/min_tree.h"

#include <algorithm>

namespace bifocal::text {

int32_t MinTree::min_of(const int32_t* children) {
  int32_t least = children[0];
  for (size_t i = 1; i < kFanout; ++i) least = children[i] < least ? children[i] : least;
  return least;
}

void MinTree::assign(const std::vector<int32_t>& values) {
  const auto level = [&](size_t count) -> std::vector<int32_t>& {
    if (levels_.size() == depth_) levels_.emplace_back();
    std::vector<int32_t>& out = levels_[depth_++];
    out.resize((std::max<size_t>(count, 1) + kFanout - 1) / kFanout * kFanout);
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(), kNone);
    return out;
  };
  depth_ = 0;
  std::copy(values.begin(), values.end(), level(values.size()).begin());
  while (levels_[depth_ - 1].size() > kFanout) {
    const size_t below = depth_ - 1;
    const size_t count = levels_[below].size() / kFanout;
    std::vector<int32_t>& minima = level(count);
    for (size_t i = 0; i < count; ++i) minima[i] = min_of(&levels_[below][i * kFanout]);
  }
}

void MinTree::set(size_t index, int32_t value) {
  levels_[0][index] = value;
  for (size_t depth = 1; depth < depth_; ++depth) {
    index /= kFanout;
    const int32_t least = min_of(&levels_[depth - 1][index * kFanout]);
    if (levels_[depth][index] == least) return;
    levels_[depth][index] = least;
  }
}

size_t MinTree::argmin() const {
  if (depth_ == 0) return SIZE_MAX;
  size_t index = 0;  // of the node whose children are looked at
  for (size_t depth = depth_; depth-- > 0;) {
    const int32_t* children = &levels_[depth][index * kFanout];
    const int32_t least = min_of(children);
    if (least == kNone) return SIZE_MAX;
    index = index * kFanout + static_cast<size_t>(std::find(children, children + kFanout, least) - children);
  }
  return index;
}

}  // namespace bifocal::text
