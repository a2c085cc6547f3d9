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

TEST(MemoryPlan, TheTableHasALinePerPart) {
  const std::string table = plan_memory(needs(), options())->table();
  for (const char* part : {"weights", "KV pages", "workspace", "plan buffers", "logits", "total"}) {
    EXPECT_NE(table.find(part), std::string::npos) << table;
  }
}

TEST(MemoryPlan, TheMachineHasMemory) {
  EXPECT_GT(usable_memory_bytes(), 64 * kMiB);
}

}  // namespace
}  // namespace bifocal::engine
