// The engine: owns the model, the KV pool and the loop thread. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/router.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "engine/request.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace bifocal::engine {

struct EngineOptions {
  int page_size = 64;  // tokens
  DType kv_dtype = DType::f32;
  int64_t kv_cache_bytes = 0;        // 0: from mem_fraction_static
  double mem_fraction_static = 0.5;  // of the machine's memory, weights included
  int64_t max_total_tokens = 0;      // 0: what fits
  // Tokens that layers with a window have room for, as a share of max_total_tokens; 0: what running sequences
  // need. Fewer run at a time where it is less.
  double swa_full_tokens_ratio = 0;
  int chunked_prefill_size = 2048;  // tokens of prefill per step; -1: whole prompts
  int max_running_requests = 256;
  int max_queued_requests = 256;
  int context_length = 0;           // 0: the model's
  bool enable_prefix_cache = true;  // --disable-radix-cache
  bool deterministic = false;
  attention::RouterOptions attention;
  int num_threads = 0;               // 0: all cores
  std::shared_ptr<ThreadPool> pool;  // shared with the model; null: one of num_threads
  // Prepare the next step while one runs; the engine's own options() say whether its model's device can.
  bool overlap_schedule = true;
  bool time_device = false;                // EngineStats::device_idle_ns
  double schedule_conservativeness = 1.0;  // how much of max_new_tokens admission expects; 0: nothing
};

// A consistent snapshot, taken after each step; reading it never waits for the engine.
struct EngineStats {
  int running_requests = 0;
  int queued_requests = 0;
  int64_t total_pages = 0;
  int64_t free_pages = 0;
  int64_t cached_pages = 0;  // held by the prefix tree alone
  int64_t window_pages = 0;  // of layers with a window; 0: there are none
  int64_t free_window_pages = 0;
  int64_t cached_window_pages = 0;
  int64_t used_tokens = 0;
  uint64_t steps = 0;
  uint64_t prompt_tokens = 0;
  uint64_t cached_prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t finished_requests = 0;
  uint64_t aborted_requests = 0;
  uint64_t failed_requests = 0;
  uint64_t retracted_requests = 0;
  uint64_t numeric_faults = 0;
  double last_gen_throughput = 0;  // tokens/s over the last second or so
  // With time_device, a GPU's time without anything to compute, and between how many steps: only of steps
  // that followed one another, not while there were no requests.
  int64_t device_idle_ns = 0;
  uint64_t device_gaps = 0;
  int64_t last_step_ns = 0;  // monotonic time of the last completed step or idle tick
  struct PhaseUse {
    std::string attention_class, phase, backend, reason;
    uint64_t steps = 0, plans = 0, rows = 0;
    double seconds = 0;
  };
  std::vector<PhaseUse> attention;
};

struct EnginePlan;  // engine/engine_plan.h

class Engine {
 public:
  virtual ~Engine() = default;  // aborts what is left and joins

  // Plans and takes the memory. With a plan of plan_engine(), made before the model was loaded, it keeps to
  // that.
  // tokenizer may be null (--skip-tokenizer-init): then no text comes out and stop strings are refused.
  static Expected<std::unique_ptr<Engine>> create(std::unique_ptr<model::Model> model,
                                                  std::shared_ptr<const text::Tokenizer> tokenizer,
                                                  const EngineOptions& options);
  static Expected<std::unique_ptr<Engine>> create(std::unique_ptr<model::Model> model,
                                                  std::shared_ptr<const text::Tokenizer> tokenizer,
                                                  EnginePlan plan);

  // Validates and queues. invalid_argument: the request can never run (too long, bad parameters);
  // resource_exhausted: the queue is full; unavailable: draining or failed. After ok, sink gets events until
  // every choice finished, exactly once each.
  virtual Status submit(GenerateRequest request, EventSink sink) = 0;
  // Takes effect before the next step is built; a no-op for unknown or finished ids. True if it was live.
  virtual bool abort(const std::string& id) = 0;
  virtual void abort_all() = 0;
  // resource_exhausted unless nothing is running or queued.
  virtual Status flush_cache() = 0;

  virtual void begin_drain() = 0;  // submit refuses from now on; live requests go on
  virtual bool idle() const = 0;
  virtual bool failed() const = 0;

  virtual std::shared_ptr<const EngineStats> stats() const = 0;
  virtual int64_t max_total_tokens() const = 0;  // tokens the KV pool holds
  virtual int64_t context_length() const = 0;    // longest prompt + output
  virtual int64_t max_request_input_tokens() const = 0;
  virtual const EngineOptions& options() const = 0;  // with the automatic values filled in
  virtual const model::Model& model() const = 0;
  virtual std::string memory_plan() const = 0;  // a table for people
};

}  // namespace bifocal::engine
