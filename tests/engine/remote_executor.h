// A model that computes elsewhere, played on the CPU: steps run when they are collected and not before, with
// what was handed over at submit(); tokens are chosen there; logits come back only where they are asked for.
#pragma once

#include <algorithm>
#include <deque>
#include <latch>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine_harness.h"
#include "engine/sampler.h"
#include "engine/wrapped_model.h"

namespace bifocal::engine {

// What a device would do differently.
struct DeviceBehaviour {
  Status copy_error;                 // of every page copy
  int64_t fail_at = -1;              // this step and all after it fail: CUDA's errors are sticky
  int64_t refuse_at = -1;            // this step can't be submitted, nor any after it
  std::latch* submitted = nullptr;   // no step runs before
  int64_t idle_ns = 0;               // before each step
  int64_t steps = 0;                 // that ran
  int64_t overlapped = 0;            // of these, submitted while another was in flight
  int64_t read_rows = 0;             // logit rows that were asked for
  int64_t rows = 0;                  // and all of them
  std::vector<int32_t> empty_after;  // tokens after which the row is unsound
};

class RemoteExecutor final : public model::Executor {
 public:
  RemoteExecutor(std::unique_ptr<model::Executor> inner, DeviceBehaviour& behaviour)
      : inner_(std::move(inner)), behaviour_(behaviour), logits_(size_t{512} * kFakeVocab) {}

  int num_pages() const override { return inner_->num_pages(); }
  int page_size() const override { return inner_->page_size(); }
  Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    if (!behaviour_.copy_error.ok()) return behaviour_.copy_error;
    copies_.push_back({source, target, num_tokens});
    return {};
  }
  int max_in_flight() const override { return 2; }

  Status submit(const model::StepRows& rows, const attention::StepBatch& batch) override {
    if (failed_ || num_submitted_++ == behaviour_.refuse_at) return fail();
    if (in_flight_.size() == static_cast<size_t>(max_in_flight())) {
      return internal_error("a step more than may be in flight");
    }
    if (!in_flight_.empty()) {
      ++behaviour_.overlapped;
      if (in_flight_.back().reads_logits()) return internal_error("the step before has logits to be read");
    }
    in_flight_.emplace_back(rows, batch, std::exchange(copies_, {}));
    // Results are valid until now.
    std::fill(logits_.begin(), logits_.end(), std::numeric_limits<float>::quiet_NaN());
    std::fill(tokens_.begin(), tokens_.end(), kNoResult);
    return {};
  }

  Status collect() override {
    if (behaviour_.submitted != nullptr) behaviour_.submitted->wait();
    if (in_flight_.empty()) return internal_error("no step is in flight");
    if (failed_ || behaviour_.steps++ == behaviour_.fail_at) return fail();
    Submitted step = std::move(in_flight_.front());
    in_flight_.pop_front();
    for (const Copy& copy : step.copies) {
      BIFOCAL_RETURN_IF_ERROR(inner_->copy_tokens(copy.source, copy.target, copy.num_tokens));
    }
    for (int32_t& id : step.token_ids) {
      if (id > kernels::kFirstChosen) continue;
      id = chosen_.at(static_cast<size_t>(kernels::kFirstChosen - id));
      id = std::max(id, 0);  // of an unsound row: nobody looks at what comes of it
    }
    BIFOCAL_RETURN_IF_ERROR(inner_->run(step.rows(), step.batch()));
    choose_tokens(step);
    return {};
  }

  const float* logits(int32_t row) const override {
    return logits_.data() + static_cast<size_t>(row) * kFakeVocab;
  }
  std::span<const int32_t> tokens() const override { return tokens_; }
  std::optional<int64_t> idle_before_ns() const override { return behaviour_.idle_ns; }
  std::span<const attention::AttentionDesc> classes() const override { return inner_->classes(); }
  const attention::Router& router() const override { return inner_->router(); }
  const attention::PhaseCounters& counters(size_t class_index, attention::Phase phase) const override {
    return inner_->counters(class_index, phase);
  }

 private:
  static constexpr int32_t kNoResult = 1'000'000;  // no token: it would break the next step

  struct Copy {
    kv::PageId source, target;
    int num_tokens;
  };
  // A step's arrays, which are the caller's again once it is submitted.
  struct Submitted {
    Submitted(const model::StepRows& r, const attention::StepBatch& b, std::vector<Copy> page_copies)
        : copies(std::move(page_copies)),
          token_ids(r.token_ids.begin(), r.token_ids.end()),
          positions(r.positions.begin(), r.positions.end()),
          logit_rows(r.logit_rows.begin(), r.logit_rows.end()),
          q_begin(b.q_begin.begin(), b.q_begin.end()),
          q_len(b.q_len.begin(), b.q_len.end()),
          kv_len(b.kv_len.begin(), b.kv_len.end()),
          page_table(b.page_table.begin(), b.page_table.end()),
          kv_slots(r.kv_slots.begin(), r.kv_slots.end()),
          read_logits(r.read_logits.begin(), r.read_logits.end()),
          sampling(r.sampling.begin(), r.sampling.end()),
          phases(b.phases.begin(), b.phases.end()),
          number(b.step),
          page_table_stride(b.page_table_stride) {}
    model::StepRows rows() const { return {token_ids, positions, kv_slots, logit_rows, read_logits}; }
    attention::StepBatch batch() const {
      attention::StepBatch out;
      out.step = number;
      out.phases = phases;
      out.q_begin = q_begin;
      out.q_len = q_len;
      out.kv_len = kv_len;
      out.page_table = page_table;
      out.page_table_stride = page_table_stride;
      return out;
    }
    bool reads_logits() const { return std::count(read_logits.begin(), read_logits.end(), 1) > 0; }

    std::vector<Copy> copies;
    std::vector<int32_t> token_ids, positions, logit_rows, q_begin, q_len, kv_len, page_table;
    std::vector<int64_t> kv_slots;
    std::vector<uint8_t> read_logits;
    std::vector<kernels::SampleParams> sampling;
    std::vector<attention::Phase> phases;
    uint64_t number;
    int64_t page_table_stride;
  };

  Status fail() {
    failed_ = true;
    return internal_error("decode attention: cudaErrorIllegalAddress");
  }

  void choose_tokens(const Submitted& step) {
    const size_t num_rows = step.logit_rows.size();
    EXPECT_EQ(step.read_logits.size(), num_rows);
    EXPECT_EQ(step.sampling.size(), num_rows);
    chosen_.assign(num_rows, model::kUnsoundRow);
    for (size_t r = 0; r < num_rows; ++r) {
      const float* from = inner_->logits(static_cast<int32_t>(r));
      ++behaviour_.rows;
      if (step.read_logits[r] != 0) {
        ++behaviour_.read_rows;
        std::copy_n(from, kFakeVocab, logits_.begin() + static_cast<ptrdiff_t>(r * kFakeVocab));
      }
      const int32_t token = step.token_ids[static_cast<size_t>(step.logit_rows[r])];
      if (std::count(behaviour_.empty_after.begin(), behaviour_.empty_after.end(), token) == 0) {
        chosen_[r] = choose(from, step.sampling[r]);
      }
    }
    tokens_ = chosen_;
  }

  static int32_t choose(const float* logits, const kernels::SampleParams& how) {
    SamplingParams params;
    params.temperature = how.temperature;
    params.top_p = how.top_p;
    params.min_p = how.min_p;
    params.top_k = how.top_k;
    SampleTask task;
    task.logits = logits;
    task.params = &params;
    task.seed = how.seed;
    task.position = how.position;
    SampleOutcome outcome;
    ThreadPool pool(1);
    Sampler(kFakeVocab, 1).run({&task, 1}, {&outcome, 1}, pool);
    return outcome.valid ? outcome.token.id : model::kUnsoundRow;
  }

  std::unique_ptr<model::Executor> inner_;
  DeviceBehaviour& behaviour_;
  std::deque<Submitted> in_flight_;
  std::vector<Copy> copies_;     // of the next step
  std::vector<int32_t> chosen_;  // on the device: tokens of the step that ran last
  std::vector<int32_t> tokens_;  // on the host
  std::vector<float> logits_;
  int64_t num_submitted_ = 0;
  bool failed_ = false;
};

using RemoteModel = WrappedModel<RemoteExecutor, DeviceBehaviour>;

struct RemoteEngine {
  explicit RemoteEngine(EngineOptions options = small_options(),
                        std::shared_ptr<const text::Tokenizer> tokenizer = nullptr) {
    auto fake = std::make_unique<FakeModel>(options.kv_dtype, options.page_size, options.pool, 1024);
    auto created = Engine::create(std::make_unique<RemoteModel>(std::move(fake), behaviour),
                                  std::move(tokenizer), options);
    EXPECT_TRUE(created.ok()) << created.status().message();
    engine = std::move(*created);
  }
  std::shared_ptr<Collector> submit(GenerateRequest request) {
    return engine::submit(*engine, std::move(request));
  }
  Collector::Output generate(GenerateRequest request) {
    return engine::generate(*engine, std::move(request));
  }
  DeviceBehaviour behaviour;  // outlives the engine
  std::unique_ptr<Engine> engine;
};

}  // namespace bifocal::engine
