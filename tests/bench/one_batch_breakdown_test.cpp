#include "bench/one_batch_breakdown.h"

#include <gtest/gtest.h>

namespace bifocal::bench {
namespace {

using trace::Kind;

constexpr int64_t kMs = 1'000'000;

// A step of 100 ms: a layer of 80 that holds a norm of 10, a product of 30 and attention of 20 within a phase
// of 25; and a stray span outside of any step.
trace::Recording one_step() {
  trace::Recording recording;
  recording.tracks.push_back({"engine",
                              {{"stray", 0, 5 * kMs, {}, Kind::rowwise},
                               {"norm", 20 * kMs, 30 * kMs, {2}, Kind::rowwise},
                               {"gemm bf16", 30 * kMs, 60 * kMs, {2, 300, 100, 60'000}, Kind::gemm},
                               {"streaming", 62 * kMs, 82 * kMs, {2, 2, 5'000, 7'000}, Kind::attention},
                               {"decode", 60 * kMs, 85 * kMs, {2}, Kind::phase},
                               {"layer", 20 * kMs, 100 * kMs, {0}, Kind::layer},
                               {"step", 10 * kMs, 110 * kMs, {1, 2}, Kind::step}},
                              3});
  return recording;
}

const OperationTime& find(const Breakdown& breakdown, std::string_view name) {
  for (const OperationTime& operation : breakdown.operations) {
    if (operation.name == name) return operation;
  }
  ADD_FAILURE() << name << " is missing";
  static const OperationTime none;
  return none;
}

TEST(OneBatchBreakdown, TimeIsCountedOnce) {
  Breakdown breakdown;
  add_recording(one_step(), breakdown);
  add_recording(one_step(), breakdown);
  EXPECT_EQ(breakdown.steps, 2);
  EXPECT_EQ(breakdown.dropped, 6U);
  EXPECT_DOUBLE_EQ(breakdown.seconds, 0.2);
  EXPECT_EQ(breakdown.operations.size(), 4U) << "what lies outside of steps isn't counted";
  EXPECT_NEAR(find(breakdown, "norm").seconds, 0.02, 1e-12);
  EXPECT_NEAR(find(breakdown, "gemm bf16 300x100").seconds, 0.06, 1e-12);
  EXPECT_NEAR(find(breakdown, "attention streaming").seconds, 0.04, 1e-12);
  EXPECT_NEAR(find(breakdown, "other").seconds, 0.08, 1e-12);
  EXPECT_EQ(breakdown.operations.front().name, "other") << "longest first";
  EXPECT_EQ(find(breakdown, "gemm bf16 300x100").calls, 2);
  EXPECT_DOUBLE_EQ(find(breakdown, "gemm bf16 300x100").flops, 2 * 2.0 * 2 * 300 * 100);
  EXPECT_DOUBLE_EQ(find(breakdown, "gemm bf16 300x100").bytes, 120'000);
  EXPECT_DOUBLE_EQ(find(breakdown, "attention streaming").flops, 10'000);
}

TEST(OneBatchBreakdown, KernelsOfStepsCountAndTheHostsWaitDoesNot) {
  trace::Recording recording;
  recording.tracks.push_back({"engine", {{"step", 10 * kMs, 110 * kMs, {1, 2}, Kind::step}}, 0});
  recording.tracks.push_back({"GPU 0 stream 13",
                              {{"copy to GPU", 12 * kMs, 22 * kMs, {1}, Kind::copy},
                               {"product", 22 * kMs, 72 * kMs, {1}, Kind::kernel},
                               {"product", 115 * kMs, 120 * kMs, {0}, Kind::kernel}},
                              0});
  recording.tracks.push_back(
      {"GPU 0 stream 13, overlapping 1", {{"norm", 30 * kMs, 82 * kMs, {1}, Kind::kernel}}, 0});
  Breakdown breakdown;
  add_recording(recording, breakdown);
  EXPECT_EQ(breakdown.steps, 1);
  EXPECT_DOUBLE_EQ(breakdown.seconds, 0.1);
  EXPECT_NEAR(find(breakdown, "product").seconds, 0.05, 1e-12);
  EXPECT_NEAR(find(breakdown, "norm").seconds, 0.01, 1e-12) << "it waited for the product";
  EXPECT_EQ(find(breakdown, "product").calls, 1) << "of steps only";
  EXPECT_NEAR(find(breakdown, "copy to GPU").seconds, 0.01, 1e-12);
  EXPECT_NEAR(find(breakdown, "other").seconds, 0.03, 1e-12);
}

TEST(OneBatchBreakdown, TheLimitIsWhatTakesLonger) {
  BreakdownRow row;
  row.batch = 2;
  row.input_len = 8;
  row.breakdown.phase = "decode";
  add_recording(one_step(), row.breakdown);
  row.dram_read_bytes_per_s = 4e6;  // 15 ms for the product's weights, 1.75 ms for the keys and values
  Ceilings limits;
  limits.f32_fma_flops = 5e5;  // 10 ms for attention
  limits.bf16_flops = 1.2e7;   // 10 ms for the product
  const Table table = to_table({row}, limits, false);
  const auto cells = [&](std::string_view name) {
    for (const auto& row_cells : table.rows) {
      if (row_cells[3] == name) return row_cells;
    }
    ADD_FAILURE() << name;
    return std::vector<std::string>(table.columns.size());
  };
  EXPECT_EQ(cells("gemm bf16 300x100")[9], "0.50");
  EXPECT_EQ(cells("gemm bf16 300x100")[10], "DRAM read");
  EXPECT_EQ(cells("attention streaming")[9], "0.50");
  EXPECT_EQ(cells("attention streaming")[10], "FMA peak");
  EXPECT_EQ(cells("norm")[9], "");
  EXPECT_EQ(cells("norm")[6], "10.0 %");
  EXPECT_EQ(cells("all")[5], "100.000");
}

TEST(OneBatchBreakdown, RunsAreTracedInTurns) {
  std::vector<bool> traced;
  const auto breakdown = break_down("decode", 3, [&] {
    traced.push_back(trace::is_on());
    const trace::StepSpan step({1});
    return Status();
  });
  ASSERT_TRUE(breakdown.ok());
  EXPECT_EQ(traced, (std::vector<bool>{false, true, false, true, false, true}));
  EXPECT_EQ(breakdown->steps, 3);
  EXPECT_GT(breakdown->untraced_s, 0);
  EXPECT_GT(breakdown->traced_s, 0);
}

TEST(OneBatchBreakdown, AFailureLeavesNoRecordingBehind) {
  EXPECT_EQ(break_down("decode", 3, [] { return internal_error("broken"); }).status().code(),
            StatusCode::internal);
  const auto traced_only = [] { return trace::is_on() ? internal_error("broken") : Status(); };
  EXPECT_FALSE(break_down("decode", 3, traced_only).ok());
  EXPECT_FALSE(trace::stop().ok());
}

}  // namespace
}  // namespace bifocal::bench
