#include "kv/page_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace bifocal::kv {
namespace {

TEST(PagePool, HandsOutEveryPageOnceThenNone) {
  PagePool pool(5, 16);
  std::set<PageId> seen;
  for (int i = 0; i < 5; ++i) seen.insert(pool.allocate());
  EXPECT_EQ(seen, (std::set<PageId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.allocate(), kNoPage);
  EXPECT_EQ(pool.free_pages(), 0);
  EXPECT_EQ(pool.owned_pages(), 5);
}

TEST(PagePool, LastReleaseFrees) {
  PagePool pool(2, 16);
  const PageId page = pool.allocate();
  pool.retain(page);
  EXPECT_EQ(pool.ref_count(page), 2);
  EXPECT_FALSE(pool.writable(page));
  pool.release(page);
  EXPECT_TRUE(pool.writable(page));
  EXPECT_EQ(pool.free_pages(), 1);
  pool.release(page);
  EXPECT_EQ(pool.free_pages(), 2);
}

TEST(PagePool, AHeldPageOfTheTreeIsOwnedAnUnheldOneIsCached) {
  PagePool pool(3, 16);
  const PageId page = pool.allocate();
  pool.add_to_tree(page);
  EXPECT_FALSE(pool.writable(page));
  EXPECT_EQ(pool.cached_pages(), 0);
  EXPECT_EQ(pool.owned_pages(), 1);
  pool.release(page);
  EXPECT_EQ(pool.cached_pages(), 1);
  EXPECT_EQ(pool.owned_pages(), 0);
  EXPECT_EQ(pool.available_pages(), 3);
  pool.retain(page);
  EXPECT_EQ(pool.cached_pages(), 0);
  pool.remove_from_tree(page);
  EXPECT_TRUE(pool.writable(page));
  pool.release(page);
  EXPECT_EQ(pool.free_pages(), 3);
}

TEST(PagePoolDeathTest, MisuseStopsTheProcess) {
  PagePool pool(2, 16);
  EXPECT_DEATH(pool.release(0), "references");
  EXPECT_DEATH(pool.retain(0), "references");
  EXPECT_DEATH(pool.release(2), "2 vs 2");
  const PageId page = pool.allocate();
  pool.add_to_tree(page);
  pool.release(page);
  EXPECT_DEATH(pool.release(page), "references");  // the tree's reference is not the caller's to give back
  EXPECT_DEATH(pool.add_to_tree(page), "in_tree");
}

TEST(PagesFor, RoundsUp) {
  EXPECT_EQ(pages_for(0, 16), 0);
  EXPECT_EQ(pages_for(1, 16), 1);
  EXPECT_EQ(pages_for(16, 16), 1);
  EXPECT_EQ(pages_for(17, 16), 2);
  EXPECT_EQ(pages_for(7, 1), 7);
}

}  // namespace
}  // namespace bifocal::kv
