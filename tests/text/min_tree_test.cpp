#include "text/min_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/hash.h"

namespace bifocal::text {
namespace {

size_t slow_argmin(const std::vector<int32_t>& values) {
  const auto least = std::min_element(values.begin(), values.end());
  return least == values.end() || *least == MinTree::kNone ? SIZE_MAX
                                                           : static_cast<size_t>(least - values.begin());
}

TEST(MinTree, AgreesWithALinearSearch) {
  SplitMix64 random(1);
  MinTree tree;  // reused, as encoders do
  for (const size_t size : std::vector<size_t>{0, 1, 2, 15, 16, 17, 255, 256, 257, 5000, 3}) {
    std::vector<int32_t> values(size);
    for (int32_t& v : values) v = static_cast<int32_t>(random.below(50));
    tree.assign(values);
    ASSERT_EQ(tree.argmin(), slow_argmin(values)) << size;
    for (int i = 0; i < 500 && size > 0; ++i) {
      const size_t index = random.below(size);
      values[index] = random.below(3) == 0 ? MinTree::kNone : static_cast<int32_t>(random.below(50));
      tree.set(index, values[index]);
      ASSERT_EQ(tree.argmin(), slow_argmin(values)) << size;
    }
  }
}

TEST(MinTree, EmptyAndExhausted) {
  MinTree tree;
  EXPECT_EQ(tree.argmin(), SIZE_MAX);
  tree.assign({MinTree::kNone, MinTree::kNone});
  EXPECT_EQ(tree.argmin(), SIZE_MAX);
}

}  // namespace
}  // namespace bifocal::text
