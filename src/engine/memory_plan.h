// Where the memory goes, worked out before it is taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "kv/kv_cache.h"

namespace bifocal::engine {

// What the machine lets this process have: physical memory, or the control group's limit when that is less.
uint64_t usable_memory_bytes();

struct MemoryNeeds {
  uint64_t weight_bytes = 0;
  uint64_t workspace_bytes = 0;    // the model's, for one step
  uint64_t plan_buffer_bytes = 0;  // the attention backends'
  uint64_t logit_bytes = 0;
  std::vector<kv::LayerShape> layers;
  int window = 0;              // tokens that the layers with a window see; 0: none has one
  int prefill_tokens = 0;      // of a step
  int64_t context_length = 0;  // tokens
  uint64_t usable_bytes = 0;   // of the device
  bool on_demand = true;       // pages and logits take memory when they are first touched
};

struct MemoryPlan {
  MemoryNeeds needs;
  uint64_t page_bytes = 0;         // over all layers without a window
  uint64_t window_page_bytes = 0;  // over all layers with one
  int page_size = 0;               // tokens
  int num_pages = 0;
  int num_window_pages = 0;  // 0: no layer has a window
  std::string kv_reason;     // what decided num_pages

  int64_t kv_tokens() const { return int64_t{num_pages} * page_size; }
  uint64_t full_kv_bytes() const;
  uint64_t window_kv_bytes() const;
  uint64_t kv_bytes() const;  // of both
  std::string table() const;  // for people: one line per part
};

// How many KV pages there are: kv_cache_bytes or max_total_tokens where given; else what mem_fraction_static
// of the machine leaves after everything else, and never more than max_running_requests full contexts can
// use. Window pages come out of the same memory: swa_full_tokens_ratio of the pages where given, else what
// the running sequences and the ends of cached prefixes take. resource_exhausted with the arithmetic when not
// even one page fits.
Expected<MemoryPlan> plan_memory(const MemoryNeeds& needs, const EngineOptions& options);

}  // namespace bifocal::engine
