// Decode steps on a GPU, each submitted while the one before runs: the tokens of steps run one after another,
// and no wait of the host but for results.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/progress.h"
#include "golden/host_waits.h"
#include "model/cuda_model.h"
#include "model/load.h"

namespace bifocal::model {
namespace {

constexpr int kSeqs = 5;
constexpr int kPromptLen = 70;  // more than a page
constexpr int kSteps = 100;
constexpr int kPageSize = 64;
constexpr int kPagesPerSeq = 3;

class Decoding {
 public:
  explicit Decoding(bool graphs) {
    Progress::set_enabled(false);
    LoadOptions options;
    options.path = std::string(BIFOCAL_SOURCE_DIR) + "/models/tiny-qwen3";
    options.device = DeviceKind::cuda;
    options.kv_dtype = DType::bf16;
    options.page_size = kPageSize;
    options.cuda_graphs.enabled = graphs;
    options.pool = std::make_shared<ThreadPool>(1);
    auto loaded = load_model(options);
    EXPECT_TRUE(loaded.ok()) << loaded.status().message();
    model_ = std::move(loaded->model);
    ExecutorOptions executor;
    executor.attention.device = DeviceKind::cuda;
    executor.limits = {kSeqs * kPromptLen, kSeqs, kPagesPerSeq * kPageSize, 1};
    executor.max_logit_rows = kSeqs;
    executor.num_pages = kSeqs * kPagesPerSeq;
    executor.time_idle = true;
    auto made = model_->make_executor(executor);
    EXPECT_TRUE(made.ok()) << made.status().message();
    executor_ = std::move(*made);
    for (int i = 0; i < kSeqs * kPagesPerSeq; ++i) page_table_.push_back(i);
  }

  // Prompts, then kSteps decode steps: [kSteps + 1][kSeqs] tokens.
  std::vector<std::vector<int32_t>> run(bool overlap) {
    std::vector<std::vector<int32_t>> tokens;
    std::vector<int32_t> prompts;
    for (int i = 0; i < kSeqs * kPromptLen; ++i) prompts.push_back((i * 37 + i / kPromptLen * 11) % 1000);
    submit(attention::Phase::prefill, 0, kPromptLen, prompts);
    tokens.push_back(collect());
    std::vector<int32_t> next = tokens.back();
    for (int step = 0; step < kSteps; ++step) {
      const int64_t before = host_waits();
      submit(attention::Phase::decode, kPromptLen + step, 1, next);
      waits_in_submit += host_waits() - before;
      if (overlap && step == 0) {
        for (int32_t s = 0; s < kSeqs; ++s) next[static_cast<size_t>(s)] = kernels::chosen_at(s);
        continue;  // from here on two are in flight
      }
      tokens.push_back(collect());
      if (!overlap) next = tokens.back();
    }
    if (overlap) tokens.push_back(collect());
    return tokens;
  }

  Executor& executor() { return *executor_; }
  int64_t waits_in_submit = 0;   // of decode steps
  int64_t waits_in_collect = 0;  // of all

 private:
  void submit(attention::Phase phase, int begin, int count, const std::vector<int32_t>& ids) {
    std::vector<int32_t> positions, logit_rows, q_begin, q_len(kSeqs, count), kv_len(kSeqs, begin + count);
    std::vector<int64_t> slots;
    for (int s = 0; s < kSeqs; ++s) {
      q_begin.push_back(s * count);
      logit_rows.push_back((s + 1) * count - 1);
      for (int p = begin; p < begin + count; ++p) {
        positions.push_back(p);
        slots.push_back(int64_t{s} * kPagesPerSeq * kPageSize + p);
      }
    }
    const std::vector<attention::Phase> phases(kSeqs, phase);
    attention::StepBatch batch;
    batch.step = ++step_;
    batch.phases = phases;
    batch.q_begin = q_begin;
    batch.q_len = q_len;
    batch.kv_len = kv_len;
    batch.page_table = page_table_;
    batch.page_table_stride = kPagesPerSeq;
    const std::vector<uint8_t> read(kSeqs, 0);
    const Status status = executor_->submit({ids, positions, slots, logit_rows, read}, batch);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  std::vector<int32_t> collect() {
    const int64_t before = host_waits();
    const Status status = executor_->collect();
    waits_in_collect += host_waits() - before;
    EXPECT_TRUE(status.ok()) << status.message();
    return {executor_->tokens().begin(), executor_->tokens().end()};
  }

  std::unique_ptr<Model> model_;
  std::unique_ptr<Executor> executor_;
  std::vector<int32_t> page_table_;
  uint64_t step_ = 0;
};

class CudaOverlap : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    const Status gpu = find_cuda_device().status();
    if (!gpu.ok()) GTEST_SKIP() << gpu.message();
  }
};

TEST_P(CudaOverlap, TheSameTokensAsOneStepAfterAnother) {
  Decoding apart(GetParam());
  const auto expected = apart.run(false);
  for (int repeat = 0; repeat < 20; ++repeat) {
    Decoding overlapped(GetParam());
    ASSERT_EQ(overlapped.run(true), expected) << "repeat " << repeat;
  }
}

TEST_P(CudaOverlap, TheHostWaitsForResultsAlone) {
  Decoding decoding(GetParam());
  ASSERT_GT(host_waits(), 0) << "loading a model waits: the calls are counted";
  decoding.run(true);
  EXPECT_EQ(decoding.waits_in_submit, 0);
  EXPECT_EQ(decoding.waits_in_collect, kSteps + 1) << "one for each step";
}

TEST_P(CudaOverlap, TheDeviceTellsHowLongItWasIdle) {
  Decoding decoding(GetParam());
  decoding.run(true);
  const auto idle_ns = decoding.executor().idle_before_ns();
  ASSERT_TRUE(idle_ns.has_value());
  EXPECT_GE(*idle_ns, 0);
  EXPECT_LT(*idle_ns, 1'000'000'000);
}

TEST_P(CudaOverlap, RefusesAStepThatCannotBeInFlight) {
  Decoding decoding(GetParam());
  EXPECT_EQ(decoding.executor().collect().code(), StatusCode::internal);
  const std::vector<int32_t> of_nobody = {kernels::chosen_at(0)};
  const std::vector<int32_t> zero = {0};
  const std::vector<int32_t> one = {1};
  const std::vector<int64_t> slot = {0};
  const std::vector<attention::Phase> phases = {attention::Phase::decode};
  attention::StepBatch batch;
  batch.phases = phases;
  batch.q_begin = zero;
  batch.q_len = one;
  batch.kv_len = one;
  batch.page_table = zero;
  batch.page_table_stride = 1;
  const StepRows behind_nobody{of_nobody, zero, slot, zero};
  EXPECT_EQ(decoding.executor().submit(behind_nobody, batch).code(), StatusCode::internal);
  const StepRows reads_logits{zero, zero, slot, zero};
  ASSERT_TRUE(decoding.executor().submit(reads_logits, batch).ok());
  EXPECT_EQ(decoding.executor().submit(reads_logits, batch).code(), StatusCode::internal);
  ASSERT_TRUE(decoding.executor().collect().ok());
}

INSTANTIATE_TEST_SUITE_P(Steps, CudaOverlap, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "captured" : "eager"; });

}  // namespace
}  // namespace bifocal::model
