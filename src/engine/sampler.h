// Chooses tokens from logits. A choice depends on its own row, parameters, seed and position: never on the
// rows beside it, the threads or the order.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/logits.h"
#include "engine/request.h"
#include "engine/sampling_params.h"
#include "engine/token_counts.h"
#include "kernels/sample_params.h"

namespace bifocal::engine {

// One token to be chosen, or (with `given`) one token of a prompt to be scored.
struct SampleTask {
  const float* logits = nullptr;           // [V], as the model gave them; rows may be shared between tasks
  std::optional<int32_t> chosen;           // by the model's device; kUnsoundRow: not a sound row
  const SamplingParams* params = nullptr;  // null when the token is given
  const TokenCounts* counts = nullptr;     // null when no penalty is set
  std::span<const int32_t> banned;         // end tokens before min_new_tokens
  uint64_t seed = 0;                       // choice_seed()
  int64_t position = 0;
  std::optional<int32_t> given;
  bool logprob =
      false;  // of the model's own distribution: before bias, penalties, temperature and truncation
  int top_logprobs = 0;
};

struct SampleOutcome {
  bool valid = false;  // false: NaN or infinite logits, or nothing is allowed; token means nothing
  OutputToken token;
};

// Choice 0 samples with the request's seed, so that n = 1 and the first of many are the same.
uint64_t choice_seed(uint64_t seed, int choice);

// True when params read TokenCounts.
bool has_penalties(const SamplingParams& params);

// What a device needs to choose the token that Sampler would. Empty: it takes the logits, here. A token that
// is given asks only whether the row is sound, which every choice tells.
std::optional<kernels::SampleParams> device_params(const SampleTask& task);

class Sampler {
 public:
  Sampler(int vocab_size, int num_threads);

  // outcomes[i] is of tasks[i]. The logits of tasks whose token a device chose are not looked at.
  void run(std::span<const SampleTask> tasks, std::span<SampleOutcome> outcomes, ThreadPool& pool);

 private:
  SampleOutcome run_one(const SampleTask& task, LogitScratch& scratch) const;

  size_t vocab_size_;
  std::vector<LogitScratch> scratch_;  // [threads]
};

}  // namespace bifocal::engine
