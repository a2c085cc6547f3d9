#include "kv/page_table.h"

#include <gtest/gtest.h>

#include <vector>

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

// Pieces of memory that hold the table's pages.
int count_runs(const PageTable& table) {
  int runs = 0;
  PageId expected = kNoPage;
  for (const PageId page : table.pages()) {
    if (page != expected) ++runs;
    expected = page + 1;
  }
  return runs;
}

TEST(PageTable, APromptIsOneRun) {
  PagePool pool(100, 16);
  std::vector<PageTable> tables;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(tables.emplace_back(pool).grow(10 * 16));
    EXPECT_EQ(count_runs(tables.back()), 1);
  }
}

TEST(PageTable, SequencesThatGrowInTurnsHaveFewRuns) {
  constexpr int kPages = 128;
  for (const int num_seqs : {1, 3, 5, 8}) {
    PagePool pool(num_seqs * kPages, 1);
    std::vector<PageTable> tables;
    for (int i = 0; i < num_seqs; ++i) ASSERT_TRUE(tables.emplace_back(pool).grow(kPages / 4));
    for (int tokens = kPages / 4 + 1; tokens <= kPages; ++tokens) {
      for (PageTable& table : tables) ASSERT_TRUE(table.grow(tokens));
    }
    EXPECT_EQ(pool.free_pages(), 0);
    int runs = 0;
    for (const PageTable& table : tables) runs += count_runs(table);
    EXPECT_LE(runs, 8 * num_seqs) << num_seqs << " sequences";
  }
}

TEST(PageTable, AFragmentedPoolHandsOutEveryPage) {
  PagePool pool(64, 1);
  std::vector<PageId> odd;
  {
    PageTable all(pool);
    ASSERT_TRUE(all.grow(64));
    for (const PageId page : all.pages()) {
      if (page % 2 == 0) continue;
      pool.retain(page);
      odd.push_back(page);
    }
  }
  PageTable table(pool);
  EXPECT_FALSE(table.grow(33));
  EXPECT_TRUE(table.grow(32));
  EXPECT_EQ(pool.free_pages(), 0);
  for (const PageId page : table.pages()) EXPECT_EQ(page % 2, 0);
  for (const PageId page : odd) pool.release(page);
}

}  // namespace
}  // namespace bifocal::kv
