// Drives a model as the engine would, without one: steps, pages, page tables. Pages are handed out in a
// scrambled order, so that nothing works only because pages happen to lie side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace bifocal::model {

struct RunnerOptions {
  std::string backend = "auto";
  attention::MlaOptions mla;
  int num_seqs = 1;
  int max_kv_len = 512;  // tokens per sequence
  int max_tokens = 512;  // rows per step
  int max_threads = 4;   // of the model's pool
  bool deterministic = false;
};

class StepRunner {
 public:
  StepRunner(Model& model, const RunnerOptions& options);
  ~StepRunner();

  // The next tokens of one sequence.
  struct Part {
    int seq = 0;
    std::vector<int32_t> tokens;
    attention::Phase phase = attention::Phase::prefill;
    bool all_logits = false;  // of every row; otherwise of the last
    bool no_logits = false;
  };
  // One step over the parts, those of phase prefill first. Logits come back row by row, part by part.
  std::vector<std::vector<float>> step(std::span<const Part> parts);

  // A prompt in chunks; the logits of all its rows.
  std::vector<std::vector<float>> prefill(int seq, std::span<const int32_t> prompt, int chunk);
  // One more token by the decode phase; its logits.
  std::vector<float> decode(int seq, int32_t token);
  // Forgets every sequence; the cache keeps its old content, as a reused page does.
  void reset();

 private:
  void grow(int seq, size_t num_tokens);

  Model& model_;
  std::unique_ptr<Executor> executor_;
  int pages_per_seq_ = 0;
  std::vector<int32_t> free_pages_;
  std::vector<std::vector<int32_t>> pages_;  // of each sequence
  std::vector<int32_t> lengths_;             // tokens in the cache
  uint64_t step_ = 0;
};

int32_t argmax(std::span<const float> logits);  // the lowest id among equals
float max_abs_difference(std::span<const float> a, std::span<const float> b);

}  // namespace bifocal::model
