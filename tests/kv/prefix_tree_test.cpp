#include "kv/prefix_tree.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kv/page_table.h"

namespace bifocal::kv {
namespace {

constexpr uint64_t kSpace = 7;

std::vector<int32_t> counting(int32_t first, int32_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

std::vector<int32_t> operator+(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class PrefixTreeTest : public testing::Test {
 protected:
  // What a finished request leaves behind; returns the pages that hold its tokens.
  std::vector<PageId> insert(const std::vector<int32_t>& tokens, uint64_t space = kSpace) {
    PageTable table(pool_);
    EXPECT_TRUE(table.grow(static_cast<int64_t>(tokens.size())));
    tree_.insert(space, tokens, table.pages());
    tree_.check_invariants();
    return {table.pages().begin(), table.pages().end()};
  }

  PagePool pool_{32, 4};
  PrefixTree tree_{pool_};
};

TEST_F(PrefixTreeTest, EmptyTreeMatchesNothing) {
  const auto match = tree_.match(kSpace, counting(0, 9));
  EXPECT_TRUE(match.pages.empty());
  EXPECT_EQ(match.partial_page, kNoPage);
  EXPECT_EQ(tree_.num_nodes(), 0U);
}

TEST_F(PrefixTreeTest, SharesWholePagesAndCopiesInsideTheNext) {
  const auto pages = insert(counting(0, 12));
  const auto match = tree_.match(kSpace, counting(0, 10));
  EXPECT_EQ(match.pages, (std::vector<PageId>{pages[0], pages[1]}));
  EXPECT_EQ(match.partial_page, pages[2]);
  EXPECT_EQ(match.partial_tokens, 2);
  const auto diverging = tree_.match(kSpace, counting(0, 5) + counting(100, 5));
  EXPECT_EQ(diverging.pages, (std::vector<PageId>{pages[0]}));
  EXPECT_EQ(diverging.partial_page, pages[1]);
  EXPECT_EQ(diverging.partial_tokens, 1);
}

TEST_F(PrefixTreeTest, ReusesAPartlyFilledLastPage) {
  const auto pages = insert(counting(0, 7));
  const auto match = tree_.match(kSpace, counting(0, 20));
  EXPECT_EQ(match.pages, (std::vector<PageId>{pages[0]}));
  EXPECT_EQ(match.partial_page, pages[1]);
  EXPECT_EQ(match.partial_tokens, 3);
}

TEST_F(PrefixTreeTest, PicksTheChildThatSharesMost) {
  insert(counting(0, 4) + std::vector<int32_t>{1, 1, 1, 1});
  const auto best = insert(counting(0, 4) + std::vector<int32_t>{1, 5, 5, 9});
  insert(counting(0, 4) + std::vector<int32_t>{1, 9, 9, 9});
  const auto match = tree_.match(kSpace, counting(0, 4) + std::vector<int32_t>{1, 5, 5, 5});
  EXPECT_EQ(match.partial_page, best[1]);
  EXPECT_EQ(match.partial_tokens, 3);
}

TEST_F(PrefixTreeTest, EqualContentIsKeptOnce) {
  const auto first = insert(counting(0, 8));
  PageTable table(pool_);
  ASSERT_TRUE(table.grow(12));
  const PageId own = table.pages()[2];
  tree_.insert(kSpace, counting(0, 12), table.pages());
  EXPECT_EQ(table.pages()[0], first[0]);
  EXPECT_EQ(table.pages()[1], first[1]);
  EXPECT_EQ(table.pages()[2], own);
  EXPECT_EQ(tree_.num_pages(), 3);
  EXPECT_EQ(pool_.owned_pages(), 3);
  EXPECT_EQ(pool_.free_pages(), 29);
}

TEST_F(PrefixTreeTest, AFullerPageReplacesAPartlyFilledOne) {
  insert(counting(0, 6));
  const auto fuller = insert(counting(0, 7));
  EXPECT_EQ(tree_.num_pages(), 2);
  const auto match = tree_.match(kSpace, counting(0, 8));
  EXPECT_EQ(match.partial_page, fuller[1]);
  EXPECT_EQ(match.partial_tokens, 3);
  insert(counting(0, 5));  // covered by what is there
  EXPECT_EQ(tree_.num_pages(), 2);
}

TEST_F(PrefixTreeTest, NamespacesShareNothing) {
  insert(counting(0, 8), 1);
  EXPECT_TRUE(tree_.match(2, counting(0, 8)).pages.empty());
  insert(counting(0, 8), 2);
  EXPECT_EQ(tree_.num_pages(), 4);
  EXPECT_EQ(tree_.match(1, counting(0, 8)).pages.size(), 2U);
}

TEST_F(PrefixTreeTest, EvictsTheLeastRecentlyUsedTailFirst) {
  const auto old = insert(counting(0, 12));
  const auto recent = insert(counting(100, 8));
  EXPECT_EQ(tree_.evict(1), 1);
  EXPECT_EQ(tree_.match(kSpace, counting(0, 12)).pages, (std::vector<PageId>{old[0], old[1]}));
  // That match made `recent` the older one.
  EXPECT_EQ(tree_.evict(2), 2);
  EXPECT_TRUE(tree_.match(kSpace, counting(100, 8)).pages.empty());
  EXPECT_EQ(tree_.match(kSpace, counting(0, 12)).pages.size(), 2U);
  tree_.check_invariants();
}

TEST_F(PrefixTreeTest, AMatchKeepsOnlyTheMatchedPagesYoung) {
  insert(counting(0, 12));
  insert(counting(100, 4));
  tree_.match(kSpace, counting(0, 4));  // the last two pages stay old
  EXPECT_EQ(tree_.evict(2), 2);
  EXPECT_EQ(tree_.match(kSpace, counting(0, 12)).pages.size(), 1U);
  EXPECT_EQ(tree_.match(kSpace, counting(100, 4)).pages.size(), 1U);
}

TEST_F(PrefixTreeTest, NeverEvictsWhatASequenceHolds) {
  insert(counting(0, 12));
  PageTable table(pool_);
  table.share(tree_.match(kSpace, counting(0, 8)).pages);
  EXPECT_EQ(pool_.cached_pages(), 1);
  EXPECT_EQ(tree_.evict(99), 1);
  EXPECT_EQ(tree_.num_pages(), 2);
  table.clear();
  EXPECT_EQ(tree_.evict(99), 2);
  EXPECT_EQ(tree_.num_nodes(), 0U);  // an empty namespace leaves nothing behind
  EXPECT_EQ(pool_.free_pages(), 32);
}

TEST_F(PrefixTreeTest, ClearLeavesHeldPagesToTheirHolders) {
  const auto pages = insert(counting(0, 12));
  PageTable table(pool_);
  table.share(tree_.match(kSpace, counting(0, 8)).pages);
  tree_.clear();
  EXPECT_EQ(pool_.free_pages(), 30);
  EXPECT_TRUE(pool_.writable(pages[0]));
  table.clear();
  EXPECT_EQ(pool_.free_pages(), 32);
}

TEST(PrefixTree, DepthNeedsNoStack) {
  // Every insertion adds one level, since matches split and siblings keep the split in place.
  constexpr int kDepth = 20'000;
  PagePool pool(2 * kDepth + 2, 1);
  PrefixTree tree(pool);
  std::vector<int32_t> tokens;
  std::vector<PageId> pages;
  for (int i = 0; i < kDepth; ++i) {
    tokens.push_back(i);
    pages.push_back(pool.allocate());
  }
  tree.insert(kSpace, tokens, pages);
  for (size_t length = kDepth - 1; length > kDepth - 200; --length) {
    auto branch = tokens;
    branch.resize(length);
    branch.push_back(-1);
    std::vector<PageId> held(pages.begin(), pages.begin() + static_cast<ptrdiff_t>(length));
    held.push_back(pool.allocate());
    tree.insert(kSpace, branch, held);
    pool.release(held.back());
  }
  EXPECT_EQ(tree.num_nodes(), 400U);
  tree.check_invariants();
  for (const PageId page : pages) pool.release(page);
  EXPECT_EQ(tree.evict(pool.num_pages()), kDepth + 199);
  EXPECT_EQ(pool.free_pages(), pool.num_pages());
}

}  // namespace
}  // namespace bifocal::kv
