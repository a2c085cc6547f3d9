#include "kernels/cuda/prefill_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "kernels/cuda/prefill_on_host.h"

namespace bifocal::kernels::cuda {
namespace {

int pick(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

struct Lengths {
  std::vector<int> q_len;
  std::vector<int> kv_len;
};

Lengths random_lengths(std::mt19937& random, int count) {
  Lengths lengths;
  for (int i = 0; i < count; ++i) {
    const int q_len = pick(random, 0, 3) == 0 ? 0 : pick(random, 0, 2000);
    lengths.q_len.push_back(q_len);
    lengths.kv_len.push_back(q_len + (pick(random, 0, 1) == 0 ? 0 : pick(random, 0, 5000)));
  }
  return lengths;
}

TEST(PrefillPlan, EveryRowHasOneItem) {
  std::mt19937 random(21);
  for (int round = 0; round < 200; ++round) {
    const int group = pick(random, 1, 16);
    const int kv_heads = pick(random, 1, 9);
    const int window = round % 3 == 0 ? pick(random, 1, 3000) : 0;
    const int dim = 64 << pick(random, 0, 2);
    const Lengths lengths = random_lengths(random, pick(random, 1, 40));
    const PrefillRule rule = prefill_rule(group * kv_heads, kv_heads, dim, window);
    const auto items = prefill_items_on_host(rule, lengths.q_len, lengths.kv_len);
    std::map<std::tuple<int, int, int>, int> owners;  // (seq, head, token)
    for (const PrefillItem& item : items) {
      const auto seq = static_cast<size_t>(item.seq);
      const int offset = lengths.kv_len[seq] - lengths.q_len[seq];
      ASSERT_GT(item.num_tokens, 0);
      ASSERT_EQ(item.kv_len, lengths.kv_len[seq]);
      for (int rank = 0; rank < kPrefillCtas; ++rank) {
        const PrefillItem share = prefill_share(rule, item, rank);
        ASSERT_LE(share.num_tokens * group, kPrefillRows);
        ASSERT_EQ(share.q_row - share.position, item.q_row - item.position);
        for (int i = 0; i < share.num_tokens; ++i)
          ++owners[{item.seq, share.head, share.position - offset + i}];
      }
      // All keys that any row sees are in the item's blocks, and no block is without such a key.
      const int keys = prefill_block_keys(dim);
      const PrefillBlocks blocks = prefill_blocks(item, keys);
      const int last = item.position + item.num_tokens - 1;
      const int first = window > 0 ? std::max(0, item.position + 1 - window) : 0;
      ASSERT_EQ(item.kv_begin, first);
      ASSERT_LE(blocks.begin * keys, first);
      ASSERT_GT((blocks.begin + 1) * keys, first);
      ASSERT_LE((blocks.end - 1) * keys, last);
      ASSERT_GT(blocks.end * keys, last);
    }
    size_t rows = 0;
    for (const int q_len : lengths.q_len) rows += static_cast<size_t>(q_len * kv_heads);
    ASSERT_EQ(owners.size(), rows);
    for (const auto& [key, times] : owners) ASSERT_EQ(times, 1);
  }
}

// Where one CTA can take all rows, the other one takes another head's.
TEST(PrefillPlan, ShortSequencesPairHeads) {
  for (const int kv_heads : {1, 2, 7, 8}) {
    const PrefillRule rule = prefill_rule(4 * kv_heads, kv_heads, 128, 0);
    std::map<std::pair<int, int>, int> tokens;  // (seq, head)
    int pairs = 0;
    for (const PrefillItem& item : prefill_items_on_host(rule, {32, 1, 33}, {5000, 900, 33})) {
      pairs += item.heads > 1 ? 1 : 0;
      ASSERT_TRUE(item.heads == 1 || item.seq < 2);
      for (int rank = 0; rank < kPrefillCtas; ++rank) {
        const PrefillItem share = prefill_share(rule, item, rank);
        ASSERT_LT(share.head, kv_heads);
        tokens[{share.seq, share.head}] += share.num_tokens;
      }
    }
    EXPECT_EQ(pairs, 2 * (kv_heads / 2));
    for (int head = 0; head < kv_heads; ++head) {
      EXPECT_EQ((tokens[{0, head}]), 32);
      EXPECT_EQ((tokens[{1, head}]), 1);
      EXPECT_EQ((tokens[{2, head}]), 33);
    }
  }
}

TEST(PrefillPlan, LongSequencesAndLateTokensComeFirst) {
  std::mt19937 random(22);
  for (int round = 0; round < 50; ++round) {
    const Lengths lengths = random_lengths(random, pick(random, 1, 30));
    const PrefillRule rule = prefill_rule(32, 8, 128, 0);
    const auto items = prefill_items_on_host(rule, lengths.q_len, lengths.kv_len);
    for (size_t i = 1; i < items.size(); ++i) {
      ASSERT_LE(items[i].kv_len, items[i - 1].kv_len);
      if (items[i].seq == items[i - 1].seq && items[i].head == items[i - 1].head) {
        ASSERT_LT(items[i].position, items[i - 1].position);
      }
    }
  }
}

TEST(PrefillPlan, HeadsOfASectionFitIntoTheCache) {
  const PrefillRule rule = prefill_rule(32, 8, 128, 0);
  for (const int length : {1000, 16384, 40000, 70000}) {
    const auto items = prefill_items_on_host(rule, {length}, {length});
    // Heads in the order in which their last tile is taken; a section is done before the next one begins.
    std::map<int, std::pair<size_t, size_t>> range;
    for (size_t i = 0; i < items.size(); ++i) {
      range.try_emplace(items[i].head, i, i);
      range[items[i].head].second = i;
    }
    int together = 0;
    for (const auto& [head, span] : range) together += span.first < range[0].second ? 1 : 0;
    EXPECT_TRUE(together == 1 || together * length <= rule.section_keys) << length;
    EXPECT_EQ(together, std::clamp(rule.section_keys / length, 1, 8)) << length;
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
