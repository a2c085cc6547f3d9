// One choice of a request as the scheduler sees it: tokens, and how many of them have their keys and values
// in pages.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/step.h"
#include "kv/page_table.h"

namespace bifocal::engine {

constexpr int64_t kNoLogits = std::numeric_limits<int64_t>::max();

struct Sequence {
  explicit Sequence(kv::PagePool& pool) : pages(pool) {}

  SequenceKey key;
  uint64_t cache_namespace = 0;
  int64_t prompt_len = 0;
  int64_t max_new_tokens = 0;
  // Prompt, then what was generated. kNoToken at the end: chosen by steps in flight.
  std::vector<int32_t> tokens;
  // Tokens whose keys and values are in pages when the copy, if one is pending, and the steps in flight are
  // done.
  int64_t num_computed = 0;
  int64_t num_in_flight = 0;  // of these, rows of steps in flight
  int32_t chosen_row = -1;    // where the last token is kNoToken: the newest step's logit row that gives it
  kv::PageTable pages;
  // The start of page num_computed / S is still to be copied from here; holds one reference to it.
  kv::PageId copy_source = kv::kNoPage;
  // First position whose logits are wanted for prompt logprobs, beside the last of each chunk.
  int64_t logits_from = kNoLogits;
  int num_forks = 0;          // further choices that will branch off at the end of the prompt
  int64_t cached_tokens = 0;  // at first admission
  int64_t high_water = 0;     // most tokens that were computed before a retraction
  bool admitted_before = false;

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_generated() const { return num_tokens() - prompt_len; }
  int64_t num_done() const { return num_computed - num_in_flight; }
  bool awaits_token() const { return tokens.back() == kNoToken; }
  int64_t num_pending() const {
    return num_tokens() - num_computed;
  }  // rows until the next token can be chosen
  // A position's phase doesn't depend on how it came to be computed.
  attention::Phase phase() const {
    if (num_computed < prompt_len) return attention::Phase::prefill;
    return num_pending() == 1 ? attention::Phase::decode : attention::Phase::verify;
  }
  int64_t num_pending_in_phase() const {
    return num_computed < prompt_len ? prompt_len - num_computed : num_pending();
  }
  bool decodes() const { return phase() == attention::Phase::decode; }
  int num_slots() const { return 1 + num_forks; }
};

}  // namespace bifocal::engine
