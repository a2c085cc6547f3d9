#include "attention/index_list.h"

#include <gtest/gtest.h>

#include "attention/span_plan.h"

namespace bifocal::attention {
namespace {

std::vector<int32_t> list_of(const PlanBuffers& buffers, size_t seq, int first, int last) {
  const auto* sequences = buffers.sequences.view().as<const SequencePlan>();
  const auto* indices = buffers.indices.view().as<const int32_t>() + sequences[seq].index_begin;
  return {indices + first, indices + last};
}

PlanBuffers buffers_for(const AttentionDesc& desc, const PlanLimits& limits) {
  PlanBuffers buffers;
  EXPECT_TRUE(allocate_span_buffers(desc, limits, {{16, 0, 1, 16}}, 64, 16, &buffers).ok());
  EXPECT_TRUE(allocate_index_list(desc, limits, &buffers).ok());
  return buffers;
}

AttentionDesc desc_with_pages(int page_size) {
  AttentionDesc desc;
  desc.num_heads = desc.num_kv_heads = 2;
  desc.head_dim_k = desc.head_dim_v = 8;
  desc.page_size = page_size;
  return desc;
}

TEST(IndexList, RunsAreAsLongAsPagesAllow) {
  for (const auto& [page_size, run] :
       {std::pair{1, 1}, {3, 1}, {6, 2}, {16, 16}, {24, 8}, {100, 4}, {256, 16}}) {
    EXPECT_EQ(index_run(page_size), run);
  }
}

// Pages of 3 tokens and 2 heads are 6 rows: an entry for every key, cached or new.
TEST(IndexList, EveryKeyOfOddPages) {
  const AttentionDesc desc = desc_with_pages(3);
  PlanBuffers buffers = buffers_for(desc, {8, 3, 8, 1});
  const std::vector<int32_t> q_len = {2, 0, 1}, kv_len = {7, 0, 4};
  const std::vector<int32_t> pages = {5, 0, 2, -1, -1, -1, 9, 1, -1};
  AttentionBatch batch;
  batch.q_len = q_len;
  batch.kv_len = kv_len;
  batch.page_table = pages;
  batch.page_table_stride = 3;
  build_index_list(desc, batch, buffers);
  EXPECT_EQ(list_of(buffers, 0, 0, 7), (std::vector<int32_t>{30, 31, 32, 0, 1, 2, 12}));
  EXPECT_EQ(list_of(buffers, 2, 0, 4), (std::vector<int32_t>{54, 55, 56, 6}));
}

// Pages of 32 tokens and 2 heads are 64 rows: two entries each. Pages before the window are not looked at.
TEST(IndexList, RunsWithinPagesAndTheWindow) {
  AttentionDesc desc = desc_with_pages(32);
  PlanBuffers buffers = buffers_for(desc, {8, 1, 100, 1});
  const std::vector<int32_t> q_len = {1}, kv_len = {100}, pages = {4, 7, 1, 3};
  AttentionBatch batch;
  batch.q_len = q_len;
  batch.kv_len = kv_len;
  batch.page_table = pages;
  batch.page_table_stride = 4;
  build_index_list(desc, batch, buffers);
  EXPECT_EQ(list_of(buffers, 0, 0, 7), (std::vector<int32_t>{256, 272, 448, 464, 64, 80, 192}));

  desc.window = 40;  // keys 60 to 99: runs 3 to 6
  const std::vector<int32_t> late_pages = {-1, 7, 1, 3};
  batch.page_table = late_pages;
  build_index_list(desc, batch, buffers);
  EXPECT_EQ(list_of(buffers, 0, 3, 7), (std::vector<int32_t>{464, 64, 80, 192}));
}

TEST(IndexListDeathTest, RowsMustFitAnEntry) {
  const AttentionDesc desc = desc_with_pages(256);
  PlanBuffers buffers = buffers_for(desc, {1, 1, 256, 1});
  const std::vector<int32_t> one = {1}, kv_len = {256}, pages = {1 << 23};
  AttentionBatch batch;
  batch.q_len = one;
  batch.kv_len = kv_len;
  batch.page_table = pages;
  batch.page_table_stride = 1;
  EXPECT_DEATH(build_index_list(desc, batch, buffers), "last_page");
}

}  // namespace
}  // namespace bifocal::attention
