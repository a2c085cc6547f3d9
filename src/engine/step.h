// One pass through the model: prefill chunks and decode rows together. The scheduler writes it, the runner
// reads it.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/phase.h"
#include "kv/page_pool.h"

namespace bifocal::engine {

// The engine's own number of a request; grows with arrival.
using RequestKey = uint64_t;

// One choice of one request.
struct SequenceKey {
  RequestKey request = 0;
  int choice = 0;
  friend auto operator<=>(const SequenceKey&, const SequenceKey&) = default;
};

// Before any row of the step runs: the first num_tokens tokens of source, in every layer, go to target. No
// source is a target of the same step.
struct PageCopy {
  kv::PageId source = kv::kNoPage;
  kv::PageId target = kv::kNoPage;
  int num_tokens = 0;
  kv::PageId window_source = kv::kNoPage;  // the window pages beside them, where layers have a window
  kv::PageId window_target = kv::kNoPage;
};

constexpr int32_t kNoToken = -1;

// q_len consecutive tokens of one sequence. The spans are valid until the scheduler's next call.
struct StepSequence {
  SequenceKey key;
  attention::Phase phase = attention::Phase::prefill;  // verify: generated tokens, computed again
  int32_t q_begin = 0;                                 // first row among the step's T rows
  int32_t q_len = 0;                                   // rows
  int32_t kv_len = 0;                 // keys after this step; row i stands at position kv_len - q_len + i
  std::span<const int32_t> tokens;    // [q_len] the last is kNoToken if a step in flight chooses it
  std::span<const kv::PageId> pages;  // at least ceil(kv_len / S)
  int32_t logit_begin = 0;            // first of its rows among the step's R logit rows
  int32_t num_logits = 0;             // logits are wanted of its last num_logits rows, at least one
  int64_t cached_tokens = 0;          // of the prompt, found in the prefix tree when it was first admitted
  int32_t chosen_row = -1;  // logit row of the step before that gives the last token; -1: it is known
};

// A token to be chosen from a row of logits. With n > 1 the choices of a request share the row that ends its
// prompt.
struct StepSample {
  SequenceKey key;
  int32_t sequence = 0;   // index into Step::sequences
  int32_t logit_row = 0;  // among R
  int64_t position = 0;   // of the token to be chosen
};

struct Step {
  uint64_t id = 0;
  std::vector<PageCopy> copies;         // in this order
  std::vector<StepSequence> sequences;  // [B]: prefill, then verify, then decode; each part by arrival
  std::vector<StepSample> samples;
  std::vector<SequenceKey> outgrown;  // ended by the scheduler: alone, and still more than the pool holds
  int32_t num_rows = 0;               // T
  int32_t num_logits = 0;             // R

  bool empty() const { return sequences.empty(); }
};

struct SampleResult {
  int32_t token = kNoToken;  // kNoToken only with finished: nothing was to be generated
  bool finished = false;
};

// What came of a step. Entries of sequences that ended while it was in flight are not looked at.
struct StepResult {
  std::vector<SampleResult> samples;  // one per Step::samples
  std::vector<uint8_t> faulted;  // [B] 1: no valid logits; the sequence ends and its pages are not reused
};

}  // namespace bifocal::engine
