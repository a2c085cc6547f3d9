#include "kv/free_runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/hash.h"

namespace bifocal::kv {
namespace {

TEST(FreeRuns, ThePageBehindIsTakenWhileItIsFree) {
  FreeRuns free(8);
  EXPECT_EQ(free.take(kNoPage, 1), 0);
  EXPECT_EQ(free.take(0, 1), 1);
  EXPECT_EQ(free.take(kNoPage, 2), 4);  // six are left: two for those in front, two of its own, two behind
  EXPECT_EQ(free.take(1, 1), 2);
  EXPECT_EQ(free.take(2, 1), 3);
  EXPECT_EQ(free.take(3, 1), 6);  // 4 is taken: one of [5, 8)
  EXPECT_EQ(free.num_pages(), 2);
  EXPECT_EQ(free.num_runs(), 2);
}

TEST(FreeRuns, PagesThatComeBackJoinTheirNeighbours) {
  FreeRuns free(5);
  for (PageId page = 0; page < 5; ++page) EXPECT_EQ(free.take(page - 1, 1), page);
  EXPECT_EQ(free.take(4, 1), kNoPage);
  for (const PageId page : {1, 3, 4, 0}) free.put(page);
  EXPECT_EQ(free.num_runs(), 2);
  free.put(2);
  EXPECT_EQ(free.num_runs(), 1);
  EXPECT_EQ(free.take(kNoPage, 5), 0);
}

TEST(FreeRunsDeathTest, APageIsFreeOnce) {
  FreeRuns free(2);
  EXPECT_DEATH(free.put(1), "contains");
}

// Against a list of which pages are free, whose runs are counted from scratch.
TEST(FreeRuns, AgreesWithAPlainList) {
  SplitMix64 random(3);
  for (int round = 0; round < 50; ++round) {
    const int num_pages = 1 + static_cast<int>(random.below(60));
    FreeRuns free(num_pages);
    std::vector<bool> is_free(static_cast<size_t>(num_pages), true);
    const auto longest_run = [&] {
      int longest = 0;
      int length = 0;
      for (const bool page : is_free) longest = std::max(longest, length = page ? length + 1 : 0);
      return longest;
    };
    const auto run_of = [&](PageId page) {
      int length = 1;
      for (auto i = static_cast<size_t>(page); i-- > 0 && is_free[i];) ++length;
      for (auto i = static_cast<size_t>(page) + 1; i < is_free.size() && is_free[i]; ++i) ++length;
      return length;
    };
    for (int i = 0; i < 400; ++i) {
      const auto page = static_cast<PageId>(random.below(static_cast<uint64_t>(num_pages)));
      const bool used = !is_free[static_cast<size_t>(page)];
      if (used && random.below(2) == 0) {
        free.put(page);
        is_free[static_cast<size_t>(page)] = true;
      } else {
        const PageId after = used ? page : kNoPage;
        const bool has_next = used && page + 1 < num_pages && is_free[static_cast<size_t>(page) + 1];
        const int longest = longest_run();
        const PageId taken = free.take(after, 1 + static_cast<int64_t>(random.below(8)));
        ASSERT_EQ(taken == kNoPage, longest == 0);
        if (taken == kNoPage) continue;
        ASSERT_TRUE(is_free[static_cast<size_t>(taken)]);
        if (has_next) {
          ASSERT_EQ(taken, page + 1);
        } else {
          ASSERT_EQ(run_of(taken), longest);
        }
        is_free[static_cast<size_t>(taken)] = false;
      }
      int runs = 0;
      for (size_t p = 0; p < is_free.size(); ++p) {
        ASSERT_EQ(free.contains(static_cast<PageId>(p)), is_free[p]);
        runs += is_free[p] && (p == 0 || !is_free[p - 1]) ? 1 : 0;
      }
      ASSERT_EQ(free.num_runs(), runs);
      ASSERT_EQ(free.num_pages(), std::count(is_free.begin(), is_free.end(), true));
    }
  }
}

}  // namespace
}  // namespace bifocal::kv
