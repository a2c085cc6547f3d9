// Decides what the next step computes. Pure bookkeeping, without kernels, clock or threads: the same calls
// give the same steps.
//
// A step may be planned behind one in flight, whose tokens are not known yet: as if every sequence went on.
// One that turns out to have ended has run a row too far, which nobody looks at.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/status.h"
#include "engine/fair_queue.h"
#include "engine/new_token_ratio.h"
#include "engine/sequence.h"
#include "engine/step.h"
#include "kv/page_pool.h"
#include "kv/prefix_tree.h"

namespace bifocal::engine {

struct SchedulerOptions {
  int max_running = 256;           // sequences in a step; a request with n choices takes n
  int prefill_tokens = 2048;       // prompt tokens per step
  bool split_prompts = true;       // false: only what is longer than prefill_tokens takes several steps
  int max_prompt_logit_rows = 64;  // per step, for prompt logprobs
  // False: only prompts enter the prefix tree, and only prompts are taken from it. For determinism, where a
  // prompt's keys and values and an output's come from kernels that round differently.
  bool reuse_outputs = true;
  double conservativeness = 1.0;  // of admission: scales how much running sequences are expected to generate
};

// A request as the scheduler needs it.
struct ScheduledRequest {
  RequestKey key = 0;
  uint64_t cache_namespace = 0;
  std::vector<int32_t> prompt;  // not empty
  int64_t max_new_tokens = 0;   // how much memory to expect it to take; ending it is the caller's decision
  int num_choices = 1;
  int64_t logits_from = kNoLogits;  // first prompt position whose logits are wanted
};

struct SchedulerCounters {
  uint64_t prompt_tokens = 0;  // of admitted requests
  uint64_t cached_prompt_tokens = 0;
  uint64_t computed_tokens = 0;    // rows
  uint64_t recomputed_tokens = 0;  // of these, rows that retraction made necessary
  uint64_t retractions = 0;
};

// Rules:
// - Waiting requests are admitted in the FairQueue's order and nobody overtakes: the first that doesn't fit
//   stops admission.
// - Admission takes all pages of the prompt at once, and leaves room for what running ones may still write.
// - A step holds a row of every running sequence past its prompt, and prefill_tokens of prompts.
// - A position's phase is its own: prompt tokens are prefill rows, generated ones decode rows, or verify rows
//   where several are computed again. With verify and decode on one backend, retraction changes no bit.
// - When pages run out, running sequences are retracted: of the class that was served most, the youngest
//   first; but never the oldest of all, which therefore always finishes. A retracted sequence keeps its
//   tokens, goes back to its place in the queue and is computed again, save what the prefix tree still has.
// - Window pages never run out: a sequence's window holds so many at most, and admission counts them. What is
//   left over bounds the chunks of a step, which lie in window pages until they are computed.
// - Pages enter the prefix tree at the end of each prefill chunk (whole pages) and when a sequence ends or is
//   retracted: only those of sequences whose last logits were valid.
// - What a step in flight reads or writes is nobody else's until it is completed. Sequences are retracted
//   only when nothing is in flight.
class Scheduler {
 public:
  // pool and tree must outlive the scheduler; tree is null when prefixes are not shared.
  Scheduler(const SchedulerOptions& options, kv::PagePool& pool, kv::PrefixTree* tree);
  ~Scheduler();

  // invalid_argument when such a request could never run. Any thread: reads only what never changes.
  Status validate(int64_t prompt_len, int num_choices) const;
  // The request must be valid. Keys must grow.
  void submit(ScheduledRequest request);
  // Takes the request out of the queue and out of the running set. Where layers have window pages, not while
  // a step is in flight.
  void cancel(RequestKey request);

  // Builds the next step, which is in flight from now on unless it is empty; at most kMaxInFlight are. The
  // reference is valid until the step is completed. Empty when nothing is live, or when what is in flight
  // must be completed first: it ends a prompt of several choices, pages are short, layers have window pages,
  // or nobody goes on for sure.
  const Step& schedule();
  // Of the oldest step in flight.
  void complete(const StepResult& result);
  static constexpr int kMaxInFlight = 2;
  int num_in_flight() const { return num_in_flight_; }

  bool idle() const { return running_.empty() && queue_.empty(); }
  int num_running() const { return running_slots_; }
  int num_waiting() const { return queue_.num_slots(); }  // choices
  int64_t num_running_tokens() const;                     // tokens that the running sequences hold pages for
  const SchedulerCounters& counters() const { return counters_; }

  // For tests: stops the process when pages and sequences disagree. Linear in everything.
  void check_invariants() const;

 private:
  struct Budget {
    int rows = 0;              // of prompts, and of outputs that are computed again
    int logits = 0;            // for prompt logprobs
    int64_t window_pages = 0;  // that no running sequence may need
  };
  struct Chunk {
    Sequence* sequence = nullptr;
    int64_t len = 0;
  };
  using Running = std::map<SequenceKey, std::unique_ptr<Sequence>>;  // by arrival
  struct Flight {
    Step step;
    std::vector<kv::PageTable> held;  // pages of the step that sequences have let go of
  };

  // Admission.
  void admit(Budget& budget);
  bool try_admit(Sequence& sequence, Budget budget);
  bool fits(const Sequence& sequence) const;
  void share_prefix(Sequence& sequence, bool inside_pages);
  void drop_pages(Sequence& sequence);
  void drop_copy(Sequence& sequence);
  int64_t expected_growth_pages(const Sequence& sequence) const;

  // Window pages.
  int64_t window_pages_of_choice(int64_t num_tokens) const;
  int64_t window_pages_of(const Sequence& sequence) const;
  int64_t spare_window_pages() const;

  // Memory.
  bool ensure_pages(Sequence& sequence, int64_t num_tokens);
  bool make_room_for_decode(Step& step);  // false: only once nothing is in flight
  Sequence& pick_victim() const;
  void retract(Step& step, Sequence& sequence);
  void retract_for_headroom(Step& step);

  // Leaving the running set. `remembered` tokens stay in the prefix tree.
  std::unique_ptr<Sequence> stop_running(Sequence& sequence, int64_t remembered);
  void end(Sequence& sequence, int64_t remembered);
  void remember(Sequence& sequence, int64_t num_tokens);

  // Steps in flight.
  bool may_plan_ahead() const;
  const Flight& newest() const { return flights_[(num_scheduled_ - 1) % kMaxInFlight]; }
  Flight& newest() { return flights_[(num_scheduled_ - 1) % kMaxInFlight]; }
  kv::PageTable& hold();  // for pages that stay until the newest step is completed
  static bool ends_in_flight(const Sequence& sequence);
  static bool branches(const Step& step, const StepSample& sample);
  Sequence* find_running(const SequenceKey& key);  // null: it has ended

  // The step.
  void plan(Step& step);
  int64_t chunk_len(const Sequence& sequence, const Budget& budget) const;
  void take_chunk(Sequence& sequence, Budget& budget);
  static int num_logits(const Sequence& sequence, int64_t len);
  void add_rows(Step& step, Sequence& sequence, int64_t q_len);
  void move_past(const Step& step);
  void settle(Sequence& sequence, const StepSequence& rows);
  void branch(Sequence& trunk, const StepSample& sample, int32_t token);
  void take_token(Sequence& sequence, const StepSample& sample, const SampleResult& result);

  void check_window_invariants(const kv::WindowPages& window, const std::vector<int32_t>& holders) const;

  SchedulerOptions options_;
  kv::PagePool& pool_;
  kv::PrefixTree* tree_;
  bool windows_limit_;          // there are fewer window pages than pages: they may run out
  int64_t chunk_window_pages_;  // that admission leaves to the chunks of a step
  FairQueue queue_;
  Running running_;
  int running_slots_ = 0;
  NewTokenRatio ratio_;
  std::array<Flight, kMaxInFlight> flights_;  // in turns
  uint64_t num_scheduled_ = 0;                // steps that were not empty
  int num_in_flight_ = 0;
  std::vector<Chunk> chunks_;  // of the step being built
  SchedulerCounters counters_;
};

}  // namespace bifocal::engine
