#include "attention/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/allocation_counter.h"
#include "attention/attention_case.h"

namespace bifocal::attention {
namespace {

// Two classes, as in a model with alternating full and sliding layers.
std::vector<AttentionDesc> two_classes() {
  AttentionDesc full;
  full.num_heads = 4;
  full.num_kv_heads = 2;
  full.head_dim_k = full.head_dim_v = 32;
  full.scale = 1.0F / std::sqrt(32.0F);
  AttentionDesc sliding = full;
  sliding.window = 24;
  return {full, sliding};
}

constexpr PlanLimits kLimits{128, 16, 2048, 2};

// A mixed step: two prefill chunks, one verify, three decode rows and their pages.
class PlannerTest : public testing::Test {
 protected:
  PlannerTest() {
    CaseSpec spec;
    spec.desc = classes_[0];
    spec.seed = 3;
    spec.sequences = {{0, 40, 40}, {1, 17, 60}, {2, 4, 90}, {3, 1, 1}, {4, 1, 1500}, {5, 1, 33}};
    data_ = std::make_unique<CaseData>(spec);
    reference_[0] = run_reference(spec);
    spec.desc = classes_[1];
    windowed_ = std::make_unique<CaseData>(spec);
    reference_[1] = run_reference(spec);
    spec_ = spec;
    RouterOptions options;
    router_ = std::make_unique<Router>(Router::create(options, classes_).value());
    planner_ = Planner::create(*router_, classes_, kLimits).value();
  }

  StepBatch step(uint64_t number, const CaseData& data) const {
    const AttentionBatch& b = data.batch();
    return {number, phases_, b.q_begin, b.q_len, b.kv_len, b.page_table, b.page_table_stride};
  }
  CaseSpec spec_of(size_t class_index) const {
    CaseSpec spec = spec_;
    spec.desc = classes_[class_index];
    return spec;
  }

  std::vector<AttentionDesc> classes_ = two_classes();
  std::vector<Phase> phases_ = {Phase::prefill, Phase::prefill, Phase::verify,
                                Phase::decode,  Phase::decode,  Phase::decode};
  CaseSpec spec_;
  std::unique_ptr<CaseData> data_, windowed_;
  CaseResult reference_[2];
  std::unique_ptr<Router> router_;
  std::unique_ptr<Planner> planner_;
  ThreadPool pool_{2};
};

TEST_F(PlannerTest, EveryPhaseRunsOnItsBackend) {
  planner_->plan(step(1, *data_));
  ASSERT_TRUE(planner_->run(0, data_->inputs(), pool_).ok());
  EXPECT_EQ(compare(spec_of(0), {data_->out(), data_->lse()}, reference_[0]), "");
  planner_->plan(step(2, *windowed_));
  ASSERT_TRUE(planner_->run(1, windowed_->inputs(), pool_).ok());
  EXPECT_EQ(compare(spec_of(1), {windowed_->out(), windowed_->lse()}, reference_[1]), "");
}

// L layers that take turns between C classes, as full and sliding layers do: C plans a step, not L.
TEST_F(PlannerTest, PlansOncePerClassAndStep) {
  constexpr uint64_t kSteps = 3;
  constexpr size_t kLayers = 8;
  for (uint64_t s = 1; s <= kSteps; ++s) {
    planner_->plan(step(s, *data_));
    for (size_t layer = 0; layer < kLayers; ++layer) {
      ASSERT_TRUE(planner_->run(layer % 2, data_->inputs(), pool_).ok());
    }
  }
  for (size_t c = 0; c < 2; ++c) {
    for (int p = 0; p < kNumPhases; ++p) {
      EXPECT_EQ(planner_->counters(c, static_cast<Phase>(p)).plans, kSteps);
      EXPECT_EQ(planner_->counters(c, static_cast<Phase>(p)).steps, kSteps);
    }
  }
  EXPECT_EQ(planner_->counters(0, Phase::prefill).rows, kSteps * 57);
  EXPECT_EQ(planner_->counters(0, Phase::verify).rows, kSteps * 4);
  EXPECT_EQ(planner_->counters(0, Phase::decode).rows, kSteps * 3);
  EXPECT_GT(planner_->counters(0, Phase::prefill).run_ns, 0U);
  EXPECT_GT(planner_->counters(1, Phase::prefill).run_ns, 0U);
}

TEST_F(PlannerTest, PhasesThatAreAbsentAreNotPlanned) {
  StepBatch batch = step(1, *data_);
  const std::vector<Phase> all_prefill(6, Phase::prefill);
  batch.phases = all_prefill;
  planner_->plan(batch);
  EXPECT_EQ(planner_->counters(0, Phase::prefill).plans, 1U);
  EXPECT_EQ(planner_->counters(0, Phase::decode).plans, 0U);
  EXPECT_EQ(planner_->counters(0, Phase::verify).steps, 0U);
  ASSERT_TRUE(planner_->run(0, data_->inputs(), pool_).ok());
  EXPECT_EQ(compare(spec_of(0), {data_->out(), data_->lse()}, reference_[0]), "");
}

TEST_F(PlannerTest, EmptyStep) {
  planner_->plan(StepBatch{});
  EXPECT_TRUE(planner_->run(0, LayerInputs{}, pool_).ok());
  EXPECT_EQ(planner_->counters(0, Phase::prefill).plans, 0U);
}

TEST_F(PlannerTest, NothingIsAllocatedAfterCreation) {
  const size_t before = allocation_count();
  for (uint64_t s = 1; s <= 3; ++s) {
    planner_->plan(step(s, *data_));
    ASSERT_TRUE(planner_->run(0, data_->inputs(), pool_).ok());
  }
  EXPECT_EQ(allocation_count(), before);
  EXPECT_GT(planner_->buffer_bytes(), 0U);
}

// Every record is written anew each step, into memory that stays where it is.
TEST_F(PlannerTest, PlansDoNotDependOnWhatTheBuffersHeld) {
  CaseSpec spec = spec_of(0);
  spec.num_threads = 2;
  spec.share_pages = true;
  spec.sequences = {{0, 1, 1700, 50, 1600}, {1, 2, 1650, 50, 1600}, {2, 1, 5}, {3, 0, 0}, {4, 1, 1200}};
  const CaseResult reference = run_reference(spec);
  for (const Backend* backend : cpu_backends()) {
    const CaseData data(spec);
    auto buffers = backend->make_buffers(spec.desc, kLimits);
    ASSERT_TRUE(buffers.ok());
    std::vector<const void*> addresses;
    for (const Tensor* tensor : buffers->tensors()) addresses.push_back(tensor->view().data);
    for (const int poison : {0xff, 0x5a}) {
      for (const Tensor* tensor : buffers->tensors()) {
        if (!tensor->empty()) std::memset(tensor->view().data, poison, tensor->view().num_bytes());
      }
      const Plan plan = backend->plan(spec.desc, data.batch(), *buffers);
      for (int layer = 0; layer < 2; ++layer) {
        std::fill_n(data.inputs().out, data.num_rows() * data.inputs().out_stride, CaseData::kPadding);
        ASSERT_TRUE(backend->run(plan, spec.desc, spec.seed, data.inputs(), pool_).ok());
        EXPECT_EQ(compare(spec, {data.out(), data.lse()}, reference), "") << backend->name();
      }
    }
    for (size_t i = 0; i < addresses.size(); ++i) {
      EXPECT_EQ(buffers->tensors()[i]->view().data, addresses[i]);
    }
  }
}

TEST_F(PlannerTest, SequencesMustComeByPhase) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // the fixture has threads
  StepBatch batch = step(1, *data_);
  const std::vector<Phase> mixed_up = {Phase::decode, Phase::prefill, Phase::prefill,
                                       Phase::decode, Phase::decode,  Phase::decode};
  batch.phases = mixed_up;
  EXPECT_DEATH(planner_->plan(batch), "phases");
}

// A plan of another class, step or backend is refused; so are inputs that do not fit the class.
TEST_F(PlannerTest, RunRefusesAForeignPlan) {
  for (const Backend* backend : cpu_backends()) {
    auto buffers = backend->make_buffers(classes_[0], kLimits);
    ASSERT_TRUE(buffers.ok());
    const Plan plan = backend->plan(classes_[0], data_->batch(), *buffers);
    const uint64_t number = data_->batch().step;
    const auto refusal = [&](const Plan& p, const AttentionDesc& desc, uint64_t s, const LayerInputs& in,
                             ThreadPool& t) {
      const Status status = backend->run(p, desc, s, in, t);
      EXPECT_EQ(status.code(), StatusCode::internal) << backend->name();
      return status.message();
    };
    const auto has = [](const std::string& text, const char* part) {
      return text.find(part) != std::string::npos;
    };
    EXPECT_TRUE(
        has(refusal(plan, classes_[1], number, data_->inputs(), pool_), "was given the plan of class"));
    EXPECT_TRUE(
        has(refusal(plan, classes_[0], number + 1, data_->inputs(), pool_), "was given the plan of step"));
    const Backend* other = backend == cpu_backends()[0] ? cpu_backends()[1] : cpu_backends()[0];
    Plan foreign = plan;
    foreign.backend = other;
    EXPECT_TRUE(has(refusal(foreign, classes_[0], number, data_->inputs(), pool_), "was given a plan of"));
    EXPECT_TRUE(has(refusal(Plan{}, classes_[0], number, data_->inputs(), pool_), "nobody"));
    LayerInputs wrong_cache = data_->inputs();
    wrong_cache.kv.dtype = DType::f16;
    EXPECT_TRUE(has(refusal(plan, classes_[0], number, wrong_cache, pool_), "the KV cache"));
    ThreadPool crowd(3);
    EXPECT_TRUE(has(refusal(plan, classes_[0], number, data_->inputs(), crowd), "pool of 3"));
    EXPECT_TRUE(backend->run(plan, classes_[0], number, data_->inputs(), pool_).ok());
  }
}

TEST_F(PlannerTest, SinksMustBeThere) {
  AttentionDesc desc = classes_[0];
  desc.sinks = true;
  const Backend* backend = find_backend("tiled");
  auto buffers = backend->make_buffers(desc, kLimits);
  const Plan plan = backend->plan(desc, data_->batch(), *buffers);
  EXPECT_EQ(backend->run(plan, desc, data_->batch().step, data_->inputs(), pool_).code(),
            StatusCode::internal);
}

}  // namespace
}  // namespace bifocal::attention
