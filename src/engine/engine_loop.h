// The engine's thread: takes mail, runs steps, hands out events. Where the model runs on a device, the next
// step is prepared while one runs, and that one's tokens are handed out while the next runs.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "engine/device_rows.h"
#include "engine/engine.h"
#include "engine/inbox.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "kv/page_pool.h"
#include "kv/prefix_tree.h"
#include "model/model.h"

namespace bifocal::engine {

// What the loop works with; made once by Engine::create.
struct EngineParts {
  std::unique_ptr<model::Model> model;
  std::shared_ptr<ThreadPool> pool;
  std::unique_ptr<model::Executor> executor;  // of the model
  SchedulerOptions scheduler;
  RunnerLimits limits;
  bool share_prefixes = true;
  int max_queued = 0;             // choices
  bool overlap_schedule = false;  // the executor can have two steps in flight, and shall
};

class EngineLoop {
 public:
  explicit EngineLoop(EngineParts parts);

  // Runs until the inbox is told to stop, or something breaks: then every live request gets an error event
  // and failed() is true. Nothing escapes.
  void run();

  Inbox& inbox() { return inbox_; }
  const Inbox& inbox() const { return inbox_; }
  // Any thread.
  Status validate(int64_t prompt_len, int num_choices) const {
    return scheduler_.validate(prompt_len, num_choices);
  }
  bool failed() const { return failed_.load(); }
  std::shared_ptr<const EngineStats> stats() const;
  const model::Model& model() const { return *parts_.model; }
  int64_t kv_tokens() const { return int64_t{pool_.num_pages()} * pool_.page_size(); }

 private:
  using Live = std::map<RequestKey, std::unique_ptr<LiveRequest>>;

  Status serve();  // ok when told to stop
  void read_mail();
  void begin(std::unique_ptr<LiveRequest> request);
  void abort(RequestKey key);
  void end_choices(LiveRequest& live, FinishReason reason, const Status& why);
  void end_all(FinishReason reason, const Status& why);

  // A step in flight, and what its logits are for: tokens to choose, prompt tokens to score, rows only to be
  // checked.
  struct TaskOwner {
    SequenceKey key;
    int32_t sequence = 0;   // of the step
    int32_t logit_row = 0;  // of the step
    bool scores_prompt = false;
    bool on_device = false;  // chosen there, if the model's device chooses at all
  };
  struct Flight {
    const Step* step = nullptr;
    bool after_pause = false;       // there was nothing to do before
    std::vector<SampleTask> tasks;  // Step::samples first
    std::vector<TaskOwner> owners;
    DeviceRows device_rows;
  };
  Status run_step();
  Status submit_step(const Step& step);
  Status finish_step();  // the oldest in flight
  bool may_plan_ahead() const;
  Flight& flight(uint64_t number) { return flights_[number % flights_.size()]; }
  const Flight& flight(uint64_t number) const { return flights_[number % flights_.size()]; }
  void make_tasks(Flight& flight);
  void take_results(Flight& flight);
  void find_faults(const Flight& flight);
  void deliver(const Flight& flight);
  void end_faulted(const StepSequence& rows, LiveRequest& live);
  // Null when the choice is over: it may have ended while a step was in flight.
  LiveRequest* find_open(const SequenceKey& key);

  void send(LiveRequest& live, OutputEvent event);
  // Forgets requests that are over, ends those whose sink threw.
  void sweep();
  void publish_stats();

  EngineParts parts_;
  kv::PagePool pool_;
  kv::PrefixTree tree_;
  Scheduler scheduler_;
  Runner runner_;
  Sampler sampler_;
  Inbox inbox_;
  Live live_;
  Mail mail_;           // being read
  bool paused_ = true;  // there has been nothing to do since the last step

  std::array<Flight, Scheduler::kMaxInFlight> flights_;  // in turns
  uint64_t num_submitted_ = 0;                           // steps
  uint64_t num_finished_ = 0;
  std::vector<SampleOutcome> outcomes_;  // of the step being finished
  StepResult result_;

  EngineStats counters_;  // what publish_stats() copies
  int64_t window_start_ns_ = 0;
  uint64_t window_tokens_ = 0;
  std::atomic<bool> failed_{false};
  mutable std::mutex stats_mutex_;  // held to copy one pointer
  std::shared_ptr<const EngineStats> stats_;
};

}  // namespace bifocal::engine
