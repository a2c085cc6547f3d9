#include "kv/window_pages.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kv/page_table.h"
#include "kv/prefix_tree.h"

namespace bifocal::kv {
namespace {

constexpr int kPageSize = 4;

std::vector<int32_t> counting(int32_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(WindowPages, HowManyPagesAWindowLiesIn) {
  EXPECT_EQ(pages_in_window(1, 4), 1);
  EXPECT_EQ(pages_in_window(2, 4), 2);
  EXPECT_EQ(pages_in_window(5, 4), 2);
  EXPECT_EQ(pages_in_window(6, 4), 3);
  EXPECT_EQ(pages_in_window(128, 16), 9);
  EXPECT_EQ(pages_in_window(128, 1), 128);
  // The row at 127 sees keys 0 to 127, the one at 128 no longer sees key 0.
  const WindowPages window({128, 1}, 16, 1);
  EXPECT_EQ(window.first_page(127), 0);
  EXPECT_EQ(window.first_page(142), 0);
  EXPECT_EQ(window.first_page(143), 1);
}

TEST(WindowPages, ATableHoldsWhatItsNextRowsSee) {
  PagePool pool(8, kPageSize, {6, 4});
  WindowPages& window = *pool.window();
  PageTable table(pool);
  ASSERT_TRUE(table.grow(28));
  table.extend_window(10);  // three pages
  EXPECT_EQ(window.owned_pages(), 3);
  table.slide_window(10);  // a row at 10 sees keys 5 to 10: not the first page
  EXPECT_EQ(window.of(table.pages()[0]), kNoPage);
  EXPECT_NE(window.of(table.pages()[1]), kNoPage);
  EXPECT_EQ(window.owned_pages(), 2);
  EXPECT_EQ(window.free_pages(), 2);  // no tree has the page: nobody could want it again
  table.extend_window(20);
  table.slide_window(20);
  EXPECT_EQ(table.window_begin(), 3);
  EXPECT_EQ(table.window_end(), 5);
  table.clear();
  EXPECT_EQ(window.free_pages(), window.num_pages());
  EXPECT_EQ(pool.free_pages(), pool.num_pages());
}

class WindowPrefixTest : public testing::Test {
 protected:
  // What a request leaves behind that computed its tokens in one chunk; the pages that hold them.
  std::vector<PageId> serve(const std::vector<int32_t>& tokens) {
    PageTable table(pool_);
    const auto num_tokens = static_cast<int64_t>(tokens.size());
    const auto num_pages = static_cast<int>(pages_for(num_tokens, kPageSize));
    if (pool_.free_pages() < num_pages) tree_.evict(num_pages - pool_.free_pages());
    EXPECT_TRUE(table.grow(num_tokens));
    table.extend_window(num_tokens);
    tree_.insert(0, tokens, table.pages());
    table.slide_window(num_tokens);
    tree_.check_invariants();
    return {table.pages().begin(), table.pages().end()};
  }
  int64_t matched(const std::vector<int32_t>& tokens) {
    const PrefixMatch match = tree_.match(0, tokens);
    return static_cast<int64_t>(match.pages.size()) * kPageSize + match.partial_tokens;
  }
  // So many sequences' worth of other window pages, at once.
  void crowd(int num_pages) {
    PageTable table(pool_);
    ASSERT_TRUE(table.grow(int64_t{num_pages} * kPageSize));
    table.extend_window(int64_t{num_pages} * kPageSize);
  }

  PagePool pool_{64, kPageSize, {6, 16}};
  PrefixTree tree_{pool_};
  WindowPages& window_ = *pool_.window();
};

TEST_F(WindowPrefixTest, APrefixGoesAsFarAsItsWindowIsThere) {
  const auto pages = serve(counting(40));  // ten pages
  EXPECT_EQ(matched(counting(40)), 40);
  EXPECT_EQ(window_.cached_pages(), 10);
  crowd(8);  // two are evicted: of those that slid out of the window the latest
  EXPECT_EQ(window_.cached_pages(), 8);
  EXPECT_EQ(window_.of(pages[7]), kNoPage);
  EXPECT_EQ(window_.of(pages[6]), kNoPage);
  EXPECT_EQ(matched(counting(40)), 40);  // a row at 40 sees keys from 35 on: pages 8 and 9
  EXPECT_EQ(matched(counting(39)), 39);
  EXPECT_EQ(matched(counting(35)), 24);  // pages 7 and 8 would be needed
  EXPECT_EQ(matched(counting(36)), 24);
  EXPECT_EQ(matched(counting(23)), 23);
  crowd(16);
  EXPECT_EQ(matched(counting(40)), 0);
  EXPECT_EQ(tree_.num_pages(), 10);  // the pages themselves are still there
}

TEST_F(WindowPrefixTest, WholePagesAloneAreASmallerClaim) {
  const auto pages = serve(counting(11));
  window_.retain(pages[2]);
  crowd(15);
  EXPECT_EQ(matched(counting(12)), 0);  // a row at 11 sees keys from 6 on
  window_.release(pages[2], false);
  EXPECT_TRUE(tree_.match(0, counting(12), false).pages.empty());
}

TEST_F(WindowPrefixTest, WhatIsComputedAgainGoesToThePageThatIsKnown) {
  const auto pages = serve(counting(16));
  crowd(16);
  ASSERT_EQ(matched(counting(16)), 0);
  EXPECT_EQ(serve(counting(16)), pages);
  EXPECT_EQ(matched(counting(16)), 16);
  EXPECT_EQ(pool_.owned_pages(), 0);
  EXPECT_EQ(window_.owned_pages(), 0);
  EXPECT_EQ(pool_.cached_pages(), 4);
  EXPECT_EQ(window_.cached_pages(), 4);
}

TEST_F(WindowPrefixTest, ALongPromptDoesNotDriveOutTheEndsOfOthers) {
  serve(counting(8));
  serve(counting(56, 1000));  // fourteen pages: all that was free
  serve(counting(40, 2000));
  EXPECT_EQ(matched(counting(8)), 8);
  EXPECT_EQ(matched(counting(56, 1000)), 56);
}

TEST_F(WindowPrefixTest, WhatSeveralSequencesUseStays) {
  const auto system = counting(16);
  for (int32_t user = 0; user < 20; ++user) {
    auto tokens = system;
    const auto rest = counting(24, 1000 * (user + 1));
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    if (user >= 2) {
      EXPECT_EQ(matched(tokens), 16) << user;
    }
    serve(tokens);
  }
}

TEST_F(WindowPrefixTest, ForgettingATreeFreesBoth) {
  serve(counting(40));
  tree_.clear();
  EXPECT_EQ(pool_.free_pages(), pool_.num_pages());
  EXPECT_EQ(window_.free_pages(), window_.num_pages());
}

TEST_F(WindowPrefixTest, EvictionOfAPageFreesItsWindowPage) {
  serve(counting(16));
  EXPECT_EQ(tree_.evict(1), 1);
  EXPECT_EQ(window_.cached_pages(), 3);
  EXPECT_EQ(window_.free_pages(), 13);
}

TEST_F(WindowPrefixTest, AHeldWindowPageIsNeverTaken) {
  const auto pages = serve(counting(8));
  PageTable table(pool_);
  table.share(tree_.match(0, counting(8)).pages);
  table.hold_window(8);
  EXPECT_EQ(window_.owned_pages(), 2);
  crowd(14);
  EXPECT_EQ(matched(counting(8)), 8);
  EXPECT_DEATH(crowd(15), "cached_.empty");
}

}  // namespace
}  // namespace bifocal::kv
