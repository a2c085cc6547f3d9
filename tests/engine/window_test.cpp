// Layers with a window over real kernels, in pools that are too small for the load: scheduler, page copies,
// planner and attention together, with every window page that nobody holds full of NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "base/hash.h"
#include "engine/fake_model.h"
#include "engine/runner.h"
#include "engine/scheduler.h"

namespace bifocal::engine {
namespace {

struct Sizes {
  int page_size = 4;
  int num_pages = 0;
  int num_window_pages = 0;
  int chunk = 16;
  bool share_prefixes = true;
};

struct Job {
  std::vector<int32_t> prompt;
  int64_t max_new_tokens = 0;
  int num_choices = 1;
  uint64_t abort_at = std::numeric_limits<uint64_t>::max();  // step
};

using Outputs = std::map<SequenceKey, std::vector<int32_t>>;

// The engine's inner loop without its thread: every choice takes the likeliest token, choice c the c-th at
// first.
class Loop {
 public:
  Loop(std::array<int, 2> windows, const Sizes& sizes)
      : sizes_(sizes),
        model_(DType::f32, sizes.page_size, std::make_shared<ThreadPool>(1), 512, windows),
        pool_(sizes.num_pages, sizes.page_size, {model::kv_window(model_.spec()), sizes.num_window_pages}),
        tree_(pool_),
        scheduler_(scheduler_options(sizes), pool_, sizes.share_prefixes ? &tree_ : nullptr),
        executor_(make_executor()),
        runner_(*executor_, limits(), pool_.window()) {
    model_.on_cache = [this](kv::KvCache& cache) { poison(cache); };
  }

  // Tokens of every choice that was not aborted.
  Outputs run(const std::vector<Job>& jobs) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      const Job& job = jobs[i];
      EXPECT_TRUE(scheduler_.validate(static_cast<int64_t>(job.prompt.size()), job.num_choices).ok());
      scheduler_.submit({i, 0, job.prompt, job.max_new_tokens, job.num_choices, kNoLogits});
    }
    for (uint64_t number = 0; !scheduler_.idle(); ++number) {
      for (size_t i = 0; i < jobs.size(); ++i) {
        if (jobs[i].abort_at == number) abort(i);
      }
      const Step& step = scheduler_.schedule();
      EXPECT_TRUE(step.outgrown.empty());
      if (step.empty()) break;
      read_.assign(static_cast<size_t>(step.num_logits), 1);
      EXPECT_TRUE(runner_.submit(step, read_, {}).ok());
      EXPECT_TRUE(executor_->collect().ok());
      scheduler_.complete(choose(step, jobs));
      scheduler_.check_invariants();
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_EQ(pool_.owned_pages(), 0);
    EXPECT_EQ(pool_.window()->owned_pages(), 0);
    return outputs_;
  }

  const SchedulerCounters& counters() const { return scheduler_.counters(); }
  int64_t poisoned_pages() const { return poisoned_pages_; }
  const FakeModel& model() const { return model_; }

 private:
  static SchedulerOptions scheduler_options(const Sizes& sizes) {
    SchedulerOptions options;
    options.max_running = 16;
    options.prefill_tokens = sizes.chunk;
    options.conservativeness = 0;
    return options;
  }
  RunnerLimits limits() const { return {sizes_.chunk + 16, 16, 16 + 64}; }
  std::unique_ptr<model::Executor> make_executor() {
    model::ExecutorOptions options;
    options.limits = {limits().max_rows, limits().max_sequences, 512, 1};
    options.max_logit_rows = limits().max_logit_rows;
    options.num_pages = sizes_.num_pages;
    options.num_window_pages = sizes_.num_window_pages;
    auto executor = model_.make_executor(options);
    EXPECT_TRUE(executor.ok()) << executor.status().message();
    return std::move(*executor);
  }

  void abort(RequestKey request) {
    scheduler_.cancel(request);
    std::erase_if(outputs_, [&](const auto& item) { return item.first.request == request; });
  }

  void poison(kv::KvCache& cache) {
    std::vector<bool> taken(static_cast<size_t>(sizes_.num_window_pages), false);
    for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
      const kv::PageId window_page = pool_.window()->of(page);
      if (window_page != kv::kNoPage) taken[static_cast<size_t>(window_page)] = true;
    }
    for (size_t page = 0; page < taken.size(); ++page) {
      if (taken[page]) continue;
      ++poisoned_pages_;
      for (size_t layer = 0; layer < cache.num_layers(); ++layer) {
        if (cache.page_kind(layer) != kv::PageKind::window) continue;
        const kernels::PagedKv kv = cache.layer(layer);
        // A page's values follow its keys.
        std::fill_n(static_cast<float*>(kv.k) + static_cast<int64_t>(page) * kv.k_page_stride,
                    kv.k_page_stride, kNan);
      }
    }
  }

  StepResult choose(const Step& step, const std::vector<Job>& jobs) {
    StepResult result;
    result.faulted.assign(step.sequences.size(), 0);
    for (const StepSample& sample : step.samples) {
      const Job& job = jobs[sample.key.request];
      const float* logits = executor_->logits(sample.logit_row);
      EXPECT_TRUE(std::all_of(logits, logits + kFakeVocab, [](float x) { return std::isfinite(x); }))
          << "request " << sample.key.request << " position " << sample.position;
      std::vector<int32_t>& output = outputs_[sample.key];
      const auto rank = output.empty() ? static_cast<size_t>(sample.key.choice) : 0;
      std::array<int32_t, kFakeVocab> order{};
      for (int32_t token = 0; token < kFakeVocab; ++token) order[static_cast<size_t>(token)] = token;
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
      EXPECT_EQ(sample.position, static_cast<int64_t>(job.prompt.size() + output.size()));
      output.push_back(order[rank]);
      result.samples.push_back({order[rank], static_cast<int64_t>(output.size()) == job.max_new_tokens});
    }
    return result;
  }

  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

  Sizes sizes_;
  FakeModel model_;
  kv::PagePool pool_;
  kv::PrefixTree tree_;
  Scheduler scheduler_;
  std::unique_ptr<model::Executor> executor_;
  Runner runner_;
  std::vector<uint8_t> read_;
  Outputs outputs_;
  int64_t poisoned_pages_ = 0;
};

// As many window pages as pages, no prefixes, nobody else.
Outputs run_alone(std::array<int, 2> windows, const Job& job) {
  Loop loop(windows, {4, 512, 512, 512, false});
  return loop.run({job});
}

std::vector<Job> draw_jobs(SplitMix64& random) {
  const auto token = [&] { return static_cast<int32_t>(random.below(60)); };
  std::vector<std::vector<int32_t>> shared(2, std::vector<int32_t>(60));
  for (auto& prefix : shared) std::generate(prefix.begin(), prefix.end(), token);
  std::vector<Job> jobs(16);
  for (Job& job : jobs) {
    job.prompt.resize(1 + random.below(70));
    std::generate(job.prompt.begin(), job.prompt.end(), token);
    const auto& prefix = shared[random.below(shared.size())];
    std::copy_n(prefix.begin(), random.below(std::min(prefix.size(), job.prompt.size()) + 1),
                job.prompt.begin());
    job.max_new_tokens = 1 + static_cast<int64_t>(random.below(50));
    if (random.below(4) == 0) job.num_choices = 2;
    if (random.below(6) == 0) job.abort_at = random.below(200);
  }
  return jobs;
}

void expect_what_each_gets_alone(std::array<int, 2> windows, Sizes sizes) {
  uint64_t retractions = 0;
  uint64_t cached = 0;
  int64_t poisoned = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SplitMix64 random(seed);
    const std::vector<Job> jobs = draw_jobs(random);
    Loop loop(windows, sizes);
    const Outputs together = loop.run(jobs);
    ASSERT_FALSE(testing::Test::HasFailure());
    for (size_t i = 0; i < jobs.size(); ++i) {
      Job job = jobs[i];
      job.abort_at = std::numeric_limits<uint64_t>::max();
      for (const auto& [key, tokens] : run_alone(windows, job)) {
        const auto got = together.find({i, key.choice});
        if (got == together.end()) continue;  // aborted
        EXPECT_EQ(got->second, tokens) << "request " << i << " choice " << key.choice;
      }
    }
    retractions += loop.counters().retractions;
    cached += loop.counters().cached_prompt_tokens;
    poisoned += loop.poisoned_pages();
  }
  EXPECT_GT(retractions, 0U);
  EXPECT_GT(cached, 100U);
  EXPECT_GT(poisoned, 1000);
}

TEST(Window, EveryRequestGetsWhatItGetsAlone) {
  // Five window pages each: three sequences, and one page of chunks.
  expect_what_each_gets_alone({0, 10}, {4, 36, 16, 16, true});
}

TEST(Window, AlsoInPagesOfOneToken) {
  expect_what_each_gets_alone({6, 0}, {1, 130, 30, 7, true});
}

TEST(Window, AlsoWhereAllLayersHaveOne) {
  expect_what_each_gets_alone({10, 3}, {4, 36, 16, 16, true});
}

TEST(Window, AlsoInPagesWiderThanTheWindow) {
  expect_what_each_gets_alone({0, 5}, {16, 10, 7, 32, true});
}

// A sequence that crosses its window forty times in the pages of one, against plain loops in double.
TEST(Window, ALongSequenceInTheFewestPages) {
  const std::array<int, 2> windows = {0, 10};
  Job job;
  for (int32_t i = 0; i < 300; ++i) job.prompt.push_back(i * 7 % 60);
  job.max_new_tokens = 100;
  Loop loop(windows, {4, 100, 5, 64, false});
  const std::vector<int32_t> output = loop.run({job}).at({0, 0});
  ASSERT_EQ(output.size(), 100U);
  for (const size_t at : {size_t{0}, size_t{50}, size_t{99}}) {
    std::vector<int32_t> tokens = job.prompt;
    tokens.insert(tokens.end(), output.begin(), output.begin() + static_cast<ptrdiff_t>(at));
    const std::vector<double> logits = loop.model().reference_logits(tokens);
    const double chosen = logits[static_cast<size_t>(output[at])];
    EXPECT_GE(chosen, *std::max_element(logits.begin(), logits.end()) - 1e-4) << at;
  }
}

}  // namespace
}  // namespace bifocal::engine
