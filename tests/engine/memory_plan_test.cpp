#include "engine/memory_plan.h"

#include <gtest/gtest.h>

namespace bifocal::engine {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// 2 layers x 2 heads x (64 + 64) x 2 bytes = 1 KiB per token, 16 KiB per page of 16.

MemoryNeeds needs() {
  MemoryNeeds out;
  out.weight_bytes = 100 * kMiB;
  out.workspace_bytes = 10 * kMiB;
  out.plan_buffer_bytes = 5 * kMiB;
  out.logit_bytes = 1 * kMiB;
  out.layers.assign(2, kv::LayerShape{2, 64, 64});
  out.context_length = 8192;
  out.usable_bytes = 1000 * kMiB;
  return out;
}

EngineOptions options() {
  EngineOptions out;
  out.page_size = 16;
  out.kv_dtype = DType::bf16;
  return out;
}

TEST(MemoryPlan, TakesWhatTheFractionLeaves) {
  const auto plan = plan_memory(needs(), options());
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->page_bytes, 16384U);
  EXPECT_EQ(plan->num_pages, (500 - 116) * 64);
  EXPECT_LE(plan->kv_bytes() + 116 * kMiB, 500 * kMiB);
}

TEST(MemoryPlan, TheTableSaysWhetherMemoryIsTakenAtOnce) {
  auto n = needs();
  EXPECT_NE(plan_memory(n, options())->table().find("taken as it is used"), std::string::npos);
  n.on_demand = false;
  EXPECT_EQ(plan_memory(n, options())->table().find("taken as it is used"), std::string::npos);
}

TEST(MemoryPlan, NeverMoreThanTheRequestsCanUse) {
  auto o = options();
  o.max_running_requests = 4;
  const auto plan = plan_memory(needs(), o);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->kv_tokens(), 4 * 8192);
}

TEST(MemoryPlan, WhatWasAskedForDecides) {
  auto o = options();
  o.max_total_tokens = 1000;
  EXPECT_EQ(plan_memory(needs(), o)->num_pages, 63);
  o.kv_cache_bytes = static_cast<int64_t>(20 * 16384);
  EXPECT_EQ(plan_memory(needs(), o)->num_pages, 20);  // the smaller of both
  o.max_total_tokens = 0;
  o.kv_cache_bytes = static_cast<int64_t>(700 * kMiB);  // more than the fraction, as asked
  EXPECT_EQ(plan_memory(needs(), o)->num_pages, 700 * 64);
}

TEST(MemoryPlan, WhatDoesNotFitIsToldWithTheArithmetic) {
  auto n = needs();
  n.weight_bytes = 600 * kMiB;
  const auto none = plan_memory(n, options());
  EXPECT_EQ(none.status().code(), StatusCode::resource_exhausted);
  for (const char* part : {"0.5", "1000.0 MiB", "500.0 MiB", "weights 600.0 MiB", "workspace 10.0 MiB"}) {
    EXPECT_NE(none.status().message().find(part), std::string::npos)
        << part << " in " << none.status().message();
  }
  auto o = options();
  o.kv_cache_bytes = static_cast<int64_t>(950 * kMiB);
  const auto too_much = plan_memory(needs(), o);
  EXPECT_EQ(too_much.status().code(), StatusCode::resource_exhausted);
  EXPECT_NE(too_much.status().message().find("KV cache 950.0 MiB"), std::string::npos)
      << too_much.status().message();
  o.kv_cache_bytes = 1;
  EXPECT_EQ(plan_memory(needs(), o).status().code(), StatusCode::invalid_argument);
}

// 24 layers in turns, 8 heads of 64, a window of 128: 24 KiB per token and kind of layer.
MemoryNeeds gpt_oss_needs() {
  MemoryNeeds out = needs();
  out.layers.clear();
  for (int i = 0; i < 24; ++i) out.layers.push_back({8, 64, 64, false, i % 2 == 0});
  out.window = 128;
  out.prefill_tokens = 2048;
  out.context_length = 32768;
  out.usable_bytes = uint64_t{64} << 30;
  return out;
}

TEST(MemoryPlan, ALongSequenceTakesHalfWhereHalfOfTheLayersHaveAWindow) {
  const MemoryNeeds n = gpt_oss_needs();
  auto o = options();
  o.max_total_tokens = 32768;
  const uint64_t all_full = kv::KvCache::bytes_per_page(n.layers, o.kv_dtype, o.page_size) * 2048;
  const auto ratio = [&] {
    const auto plan = plan_memory(n, o);
    EXPECT_EQ(plan->num_pages, 2048);
    EXPECT_EQ(plan->page_bytes, plan->window_page_bytes);
    return static_cast<double>(plan->kv_bytes()) / static_cast<double>(all_full);
  };
  EXPECT_LT(ratio(), 0.61);  // with prefixes and up to sixteen sequences
  o.max_running_requests = 1;
  EXPECT_LT(ratio(), 0.57);
  o.swa_full_tokens_ratio = 0.01;  // less than one sequence and the prompts of a step need
  const auto plan = plan_memory(n, o);
  EXPECT_EQ(plan->num_window_pages, 9 + 1 + 128);
  EXPECT_LT(ratio(), 0.54);
  o.swa_full_tokens_ratio = 1;
  EXPECT_EQ(ratio(), 1);
}

TEST(MemoryPlan, BothKindsOfPagesComeFromOneBudget) {
  const MemoryNeeds n = gpt_oss_needs();
  for (const int64_t mib : {1, 10, 100, 1000, 10000}) {
    auto o = options();
    o.kv_cache_bytes = mib * static_cast<int64_t>(kMiB);
    const auto plan = plan_memory(n, o);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_LE(plan->kv_bytes(), static_cast<uint64_t>(o.kv_cache_bytes));
    EXPECT_GT(plan->kv_bytes() + plan->page_bytes + plan->window_page_bytes,
              static_cast<uint64_t>(o.kv_cache_bytes));
    EXPECT_LE(plan->num_window_pages, plan->num_pages);
  }
  auto o = options();
  EXPECT_LE(plan_memory(n, o)->kv_bytes() + 116 * kMiB, n.usable_bytes / 2);
}

TEST(MemoryPlan, WithoutWindowPagesAllLayersLieInAllPages) {
  MemoryNeeds n = gpt_oss_needs();
  n.window = 0;  // as for a device that has none
  const auto plan = plan_memory(n, options());
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->num_window_pages, 0);
  EXPECT_EQ(plan->page_bytes, 24U * 8 * 128 * 16 * 2);
}

TEST(MemoryPlan, AModelOfWindowsAloneTakesAsMuchAsTheyHold) {
  MemoryNeeds n = gpt_oss_needs();
  for (kv::LayerShape& layer : n.layers) layer.windowed = true;
  auto o = options();
  o.max_running_requests = 4;
  const auto plan = plan_memory(n, o);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->kv_tokens(), 4 * 32768);
  EXPECT_EQ(plan->full_kv_bytes(), 0U);
  EXPECT_EQ(plan->num_window_pages, 4 * 10 + 128 + 8192 / 16);
}

TEST(MemoryPlan, TheTableHasALinePerPart) {
  const std::string table = plan_memory(needs(), options())->table();
  for (const char* part : {"weights", "KV pages", "workspace", "plan buffers", "logits", "total"}) {
    EXPECT_NE(table.find(part), std::string::npos) << table;
  }
  EXPECT_EQ(table.find("KV windows"), std::string::npos) << table;
  EXPECT_NE(plan_memory(gpt_oss_needs(), options())->table().find("KV windows"), std::string::npos);
}

TEST(MemoryPlan, TheMachineHasMemory) {
  EXPECT_GT(usable_memory_bytes(), 64 * kMiB);
}

}  // namespace
}  // namespace bifocal::engine
