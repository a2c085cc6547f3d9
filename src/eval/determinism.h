// Does a prompt get one and the same answer, whatever else runs? SGLang's four tests (sglang.test.
// test_deterministic), with log-probabilities compared to the bit.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/generator.h"

namespace bifocal::eval {

enum class DeterminismMode : uint8_t {
  single,       // batches of 1, 2, ... copies of one prompt
  mixed,        // two short prompts and a long one, in batches of changing composition
  prefix,       // four beginnings of one long text, of very different lengths, likewise; the cache is emptied
                // before each batch
  radix_cache,  // a prompt with its own output, scored with a warm cache and with a cold one
};
std::string_view to_string(DeterminismMode mode);
Expected<DeterminismMode> parse_determinism_mode(std::string_view name);

struct DeterminismOptions {
  int num_trials = 50;  // batches; trial i has num_start + i prompts
  int num_start = 1;
  double temperature = 0.0;
  uint64_t sampling_seed = 42;
  int64_t max_new_tokens = 100;
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  int num_mates = 0;           // further prompts in each batch, random ones, whose answers don't count
  uint64_t shuffle_seed = 42;  // of compositions and mates
  std::function<void(int done, int total)> on_trial;
};

// The answers to one prompt.
struct PromptSamples {
  explicit PromptSamples(std::string name) : prompt(std::move(name)) {}
  std::string prompt;  // "Prompt 1 with prefix length 511"
  int64_t total = 0;
  std::vector<std::string> fingerprints;  // the distinct ones

  void add(const Answer& answer);
  int64_t unique() const { return static_cast<int64_t>(fingerprints.size()); }
};

struct DeterminismReport {
  DeterminismMode mode = DeterminismMode::single;
  std::vector<PromptSamples> prompts;
  std::vector<std::string> notes;
  bool deterministic() const;  // every prompt was sampled and has one answer
  bool differs() const;        // some prompt has more than one
  // "Prompt 0 with prefix length 1: total samples: 302, Unique samples: 1", a line per prompt, then the
  // notes.
  std::string text() const;
};

Expected<DeterminismReport> run_determinism(Generator& generator, DeterminismMode mode,
                                            const DeterminismOptions& options);

}  // namespace bifocal::eval
