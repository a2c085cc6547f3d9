#include "attention/work.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace bifocal::attention {
namespace {

AttentionDesc small_desc(int window) {
  AttentionDesc desc;
  desc.num_heads = 4;
  desc.num_kv_heads = 2;
  desc.head_dim_k = 8;
  desc.head_dim_v = 16;
  desc.window = window;
  desc.kv_dtype = DType::bf16;
  return desc;
}

TEST(BatchWork, IsWhatCountingEveryPairGives) {
  for (const int window : {0, 1, 3, 5, 100}) {
    for (const bool causal : {true, false}) {
      const std::vector<int32_t> q_begin = {0, 1, 1, 8};
      const std::vector<int32_t> q_len = {1, 0, 7, 4};
      const std::vector<int32_t> kv_len = {6, 9, 7, 11};
      AttentionBatch batch;
      batch.q_begin = q_begin;
      batch.q_len = q_len;
      batch.kv_len = kv_len;
      batch.causal = causal;
      int64_t pairs = 0;
      int64_t keys = 0;
      for (size_t s = 0; s < q_len.size(); ++s) {
        std::set<int> seen;
        for (int i = 0; i < q_len[s]; ++i) {
          const int last = causal ? kv_len[s] - q_len[s] + i : kv_len[s] - 1;
          const int first = causal && window > 0 ? std::max(0, last - window + 1) : 0;
          for (int key = first; key <= last; ++key) {
            ++pairs;
            seen.insert(key);
          }
        }
        keys += static_cast<int64_t>(seen.size());
      }
      const BatchWork work = batch_work(small_desc(window), batch);
      EXPECT_EQ(work.rows, 12) << window;
      EXPECT_EQ(work.flops, 2 * pairs * 4 * (8 + 16)) << window << causal;
      EXPECT_EQ(work.bytes, keys * 2 * (8 + 16) * 2) << window << causal;
    }
  }
}

TEST(BatchWork, LatentsHoldTheirValues) {
  AttentionDesc desc = small_desc(0);
  desc.kind = Kind::mla;
  desc.num_kv_heads = 1;
  const std::vector<int32_t> one = {1}, begin = {0}, keys = {10};
  AttentionBatch batch;
  batch.q_begin = begin;
  batch.q_len = one;
  batch.kv_len = keys;
  EXPECT_EQ(batch_work(desc, batch).bytes, 10 * 8 * 2);
}

}  // namespace
}  // namespace bifocal::attention
