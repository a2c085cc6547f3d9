#include "kv/page_table.h"

#include <gtest/gtest.h>

namespace bifocal::kv {
namespace {

TEST(PageTable, GrowsByWholePagesAndGivesThemBack) {
  PagePool pool(4, 16);
  {
    PageTable table(pool);
    EXPECT_TRUE(table.grow(17));
    EXPECT_EQ(table.num_pages(), 2);
    EXPECT_EQ(table.capacity(), 32);
    EXPECT_TRUE(table.grow(32));
    EXPECT_EQ(table.num_pages(), 2);
    EXPECT_FALSE(table.grow(65));  // a fifth page
    EXPECT_EQ(table.num_pages(), 2);
    EXPECT_EQ(pool.free_pages(), 2);
  }
  EXPECT_EQ(pool.free_pages(), 4);
}

TEST(PageTable, SharesAndMoves) {
  PagePool pool(4, 16);
  PageTable first(pool);
  ASSERT_TRUE(first.grow(32));
  PageTable second(pool);
  second.share(first.pages());
  EXPECT_EQ(pool.ref_count(first.pages()[0]), 2);
  first.clear();
  EXPECT_EQ(pool.free_pages(), 2);
  PageTable third(std::move(second));
  EXPECT_EQ(third.num_pages(), 2);
  PageTable fourth(pool);
  ASSERT_TRUE(fourth.grow(1));
  fourth = std::move(third);
  EXPECT_EQ(fourth.num_pages(), 2);
  EXPECT_EQ(pool.free_pages(), 2);
  fourth.clear();
  EXPECT_EQ(pool.free_pages(), 4);
}

}  // namespace
}  // namespace bifocal::kv
