#include "bench/conversations.h"

#include <gtest/gtest.h>

#include "engine/bundled_model.h"

namespace bifocal::bench {
namespace {

TEST(Repeats, MedianAndSpread) {
  EXPECT_EQ(summarise({}).median, 0);
  EXPECT_EQ(summarise({3}).median, 3);
  EXPECT_EQ(summarise({3}).spread, 0);
  EXPECT_EQ(summarise({5, 1, 4}).median, 4);
  EXPECT_EQ(summarise({5, 1, 4}).spread, 1);
  EXPECT_EQ(summarise({4, 2}).median, 3);
}

TEST(Conversations, AnswersAreReusedByDefaultAndComputedAgainForDeterminism) {
  ConversationsOptions options;
  options.shapes = {{3, 1, 20, 8}, {2, 3, 16, 16}};
  options.repeats = 1;
  options.engine.kv_dtype = DType::bf16;
  options.engine.pool = std::make_shared<ThreadPool>(2);
  const auto model = engine::bundled_model(options.engine);
  ASSERT_NE(model, nullptr);
  const auto rows = run_conversations(*model, options);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  ASSERT_EQ(rows->size(), 4U);
  for (const ConversationsRow& row : *rows) EXPECT_GT(row.answer_tokens_per_s.median, 0);
  EXPECT_EQ((*rows)[0].cached_fraction, 0);
  EXPECT_EQ((*rows)[1].cached_fraction, 0);
  // Prompts of 16, 48 and 80 tokens. By default 16 + 15 and 48 + 15 are found again (an answer's last token
  // was never computed), with --deterministic the earlier prompts' 16 and 48.
  EXPECT_DOUBLE_EQ((*rows)[2].cached_fraction, (31.0 + 63.0) / 144.0);
  EXPECT_DOUBLE_EQ((*rows)[3].cached_fraction, (16.0 + 48.0) / 144.0);
  EXPECT_EQ(to_table(*rows).rows.size(), 4U);
}

}  // namespace
}  // namespace bifocal::bench
