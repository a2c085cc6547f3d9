#include "kernels/cuda/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "kernels/cuda/plan_on_host.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kSms = 132;
constexpr int kMaxSlots = 400;

std::vector<int> random_lengths(std::mt19937& random, int count, int longest) {
  std::vector<int> lengths;
  for (int i = 0; i < count; ++i) {
    const int kind = std::uniform_int_distribution<int>(0, 5)(random);
    const int top = kind == 0 ? 1 : (kind < 4 ? 700 : longest);
    lengths.push_back(std::uniform_int_distribution<int>(0, top)(random));
  }
  return lengths;
}

struct Share {
  int64_t tiles = 0;  // of the largest part
  int64_t total = 0;
};

// Every span of every sequence belongs to exactly one part; slots of different sequences are apart.
Share check_plan(const HostPlan& plan) {
  std::map<std::pair<int, int>, int> owners;  // (seq, span) -> times
  std::map<int, std::pair<int, int>> slots;   // slot -> (seq, span, or -1 for the first spans together)
  Share share;
  for (const DecodePart& part : plan.parts) {
    int64_t tiles = 0;
    for (int i = 0; i < part.num_seqs; ++i) {
      const int seq = part.seq + i;
      const DecodeSequence& s = plan.seqs[static_cast<size_t>(seq)];
      const bool last = i == part.num_seqs - 1;
      const int begin = i == 0 ? part.span : s.span_begin;
      const int end = last ? part.span_end : s.span_end;
      EXPECT_LT(begin, end);
      for (int span = begin; span < end; ++span) ++owners[{seq, span}];
      tiles += int64_t{end - begin} * tiles_per_span(s);

      const bool whole = begin == s.span_begin && end == s.span_end;
      const int slot = i == 0 ? part.first_slot : (last ? part.last_slot : -1);
      EXPECT_EQ(whole, slot < 0) << "a sequence is cut exactly when another part has some of it";
      if (slot < 0) continue;
      const int cut = i == 0 ? part.first_cut : part.last_cut;
      if (cut == kContinued) {
        const bool prefix = begin == s.span_begin;
        EXPECT_LE(sequence_cost(s), plan.tiles_of_part);
        EXPECT_EQ(sequence_in_turn(part, prefix ? 0 : part.num_seqs - 1), i);
        // Who waits for a state waits for a part whose first work it is.
        EXPECT_TRUE(!prefix || part.num_seqs > 1);
        EXPECT_TRUE(slots.try_emplace(slot + (prefix ? 0 : 1), seq, prefix ? -1 : -2).second);
        continue;
      }
      if (begin == s.span_begin) {
        EXPECT_EQ(end, cut);
        EXPECT_TRUE(slots.try_emplace(slot, seq, -1).second);
      } else {
        for (int span = begin; span < end; ++span) {
          EXPECT_TRUE(slots.try_emplace(slot + 1 + span - cut, seq, span).second);
        }
      }
    }
    std::vector<bool> taken(static_cast<size_t>(part.num_seqs));
    for (int i = 0; i < part.num_seqs; ++i) {
      const int index = sequence_in_turn(part, i);
      EXPECT_TRUE(index >= 0 && index < part.num_seqs);
      EXPECT_FALSE(taken[static_cast<size_t>(index)]);
      taken[static_cast<size_t>(index)] = true;
    }
    if (part.num_seqs > 0) {
      const int start = part.seq + sequence_in_turn(part, 0);
      EXPECT_EQ(part.start_seq.kv_end, plan.seqs[static_cast<size_t>(start)].kv_end);
    }
    share.tiles = std::max(share.tiles, tiles);
    share.total += tiles;
  }
  size_t spans = 0;
  for (const DecodeSequence& s : plan.seqs) spans += static_cast<size_t>(s.span_end - s.span_begin);
  EXPECT_EQ(owners.size(), spans);
  for (const auto& [key, times] : owners) EXPECT_EQ(times, 1);
  for (const auto& [slot, key] : slots) EXPECT_LT(slot, static_cast<int>(plan.parts.size()) * kMaxSlots);
  return share;
}

TEST(DecodePlan, EverySpanHasOneOwner) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const int num_seqs = std::uniform_int_distribution<int>(1, 140)(random);
    const int heads = 1 << std::uniform_int_distribution<int>(0, 3)(random);
    const int q_len = std::uniform_int_distribution<int>(1, 4)(random);
    const int window = round % 3 == 0 ? std::uniform_int_distribution<int>(1, 5000)(random) : 0;
    const HostPlan plan = plan_on_host(random_lengths(random, num_seqs, 40000), q_len, window, SpanRule{},
                                       kSms / heads, kMaxSlots);
    ASSERT_EQ(plan.parts.size(), static_cast<size_t>(kSms / heads));
    check_plan(plan);
    if (HasFailure()) FAIL() << "round " << round;
  }
}

TEST(DecodePlan, PartsAreBalanced) {
  std::mt19937 random(12);
  for (int round = 0; round < 100; ++round) {
    const int num_parts = kSms / 8;
    const HostPlan plan =
        plan_on_host(random_lengths(random, 64, 32768), 1, 0, SpanRule{}, num_parts, kMaxSlots);
    const Share share = check_plan(plan);
    // No part is above the equal share by two spans.
    EXPECT_LT(share.tiles, share.total / num_parts + 2 * (1 << SpanRule{}.max_log2) / kTileTokens);
  }
}

TEST(DecodePlan, EqualSequencesThatFitAreNotCut) {
  for (const int num_parts : {16, 33, 132}) {
    for (const int per_part : {1, 2, 4}) {
      const int num_seqs = (num_parts == 33 ? 32 : num_parts == 132 ? 128 : 16) * per_part;
      const HostPlan plan = plan_on_host(std::vector<int>(static_cast<size_t>(num_seqs), 2048), 1, 0,
                                         SpanRule{}, num_parts, kMaxSlots);
      check_plan(plan);
      for (const DecodePart& part : plan.parts) EXPECT_EQ(part.first_slot & part.last_slot, -1);
    }
  }
}

TEST(DecodePlan, EqualSequencesAreCutAtEqualPlaces) {
  // 33 parts for the halves of 16 sequences: one stays empty.
  const HostPlan plan = plan_on_host(std::vector<int>(16, 4096), 1, 0, SpanRule{7, 9, 16}, 33, kMaxSlots);
  EXPECT_EQ(check_plan(plan).tiles, 32);
  EXPECT_EQ(plan.parts[31].num_seqs, 1);
  EXPECT_EQ(plan.parts[32].num_seqs, 0);
}

TEST(DecodePlan, OneSpanEachWhenTheyFit) {
  const HostPlan plan = plan_on_host({2048}, 1, 0, SpanRule{7, 10, 64}, 33, kMaxSlots);  // 16 spans
  EXPECT_EQ(check_plan(plan).tiles, 2);
}

TEST(DecodePlan, SpansDependOnTheSequenceAlone) {
  const SpanRule rule;
  const HostPlan alone = plan_on_host({9001}, 1, 0, rule, 16, kMaxSlots);
  const HostPlan among = plan_on_host({17, 9001, 100000}, 1, 0, rule, 7, kMaxSlots);
  EXPECT_EQ(alone.seqs[0].span_log2, among.seqs[1].span_log2);
  EXPECT_EQ(alone.seqs[0].span_end, among.seqs[1].span_end);
}

TEST(DecodePlan, SpanLengthGrowsWithTheSequence) {
  const SpanRule rule{7, 10, 64};
  EXPECT_EQ(span_log2(rule, 1), 7);
  EXPECT_EQ(span_log2(rule, 8192), 7);
  EXPECT_EQ(span_log2(rule, 8193), 8);
  EXPECT_EQ(span_log2(rule, 32768), 9);
  EXPECT_EQ(span_log2(rule, 1 << 20), 10);
}

TEST(DecodePlan, FewHeadsHaveMoreSpans) {
  EXPECT_EQ(default_span_rule(8).max_spans, 8);
  EXPECT_EQ(default_span_rule(4).max_spans, 16);
  EXPECT_EQ(default_span_rule(1).max_spans, 32);
  EXPECT_EQ(default_span_rule(64).max_spans, 8);
}

TEST(DecodePlan, EmptySequencesHaveAnOwnerToo) {
  const HostPlan plan = plan_on_host({0, 0, 0}, 1, 0, SpanRule{}, kSms, kMaxSlots);
  check_plan(plan);
}

TEST(DecodePlan, WindowSkipsWholeSpans) {
  const SpanRule rule{7, 10, 64};
  const DecodeSequence seq = decode_sequence(rule, 5000, 1, 128, 0);
  EXPECT_EQ(seq.kv_begin, 5000 - 128);
  EXPECT_EQ(seq.span_begin, (5000 - 128) / 128);
  EXPECT_EQ(seq.span_end, 40);
}

}  // namespace
}  // namespace bifocal::kernels::cuda
