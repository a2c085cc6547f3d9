// The contract between a step and an attention kernel: plan once per step and class, run once per layer.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "attention/capabilities.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/paged_kv.h"
#include "tensor/tensor.h"

namespace bifocal::attention {

// One phase's part of a step. Host lengths travel with the batch; arrays belong to the caller and live as
// long as the step. B sequences; empty ones (q_len 0) are legal and produce nothing.
struct AttentionBatch {
  Phase phase = Phase::prefill;
  uint64_t step = 0;                 // stamps the plan
  std::span<const int32_t> q_begin;  // [B] first row of the sequence in the step's token rows
  std::span<const int32_t> q_len;    // [B]
  std::span<const int32_t> kv_len;   // [B] keys including this step's: the last query sees all kv_len of them
  std::span<const int32_t> page_table;  // [B, page_table_stride] page ids
  int64_t page_table_stride = 0;
  bool causal = true;  // false: every query sees all kv_len keys, none of which are this step's own
  int num_seqs() const { return static_cast<int>(q_len.size()); }
};

// The most a step may hold; buffers are sized from it at start-up. Steps beyond it are a bug of the caller's.
struct PlanLimits {
  int max_tokens = 0;   // query rows of a phase
  int max_seqs = 0;     // sequences of a phase
  int max_kv_len = 0;   // keys of a sequence
  int num_threads = 1;  // of the pool that run() is given
};

// Memory that plans are written to: allocated once, addresses never change, every record is rewritten each
// step. Sizes are upper bounds that follow from the limits; how they are derived is written where they are
// made.
struct PlanBuffers {
  PlanLimits limits;
  Tensor items;      // work records, backend-defined
  Tensor parts;      // contiguous ranges of records, one per task
  Tensor splits;     // units of work whose keys are shared out over several records
  Tensor partials;   // f32 partial states of these
  Tensor sequences;  // a record per sequence
  Tensor order;      // sequences, sorted while prefixes that several share are searched
  Tensor groups;     // a record per shared prefix
  Tensor members;    // the sequences that share it
  Tensor shared;     // f32 states of their rows after it
  Tensor scratch;    // [num_threads, ...] working memory of run()
  std::array<const Tensor*, 10> tensors() const;
  size_t num_bytes() const;
};

class Backend;

struct Plan {
  const Backend* backend = nullptr;
  const AttentionDesc* desc = nullptr;  // the class this plan was made for
  AttentionBatch batch;
  PlanBuffers* buffers = nullptr;
  int64_t num_items = 0;         // records in buffers->items
  int64_t num_parts = 0;         // ranges in buffers->parts
  int64_t num_shared_parts = 0;  // the first of these, which compute shared prefixes before the others start
  int64_t num_splits = 0;        // records in buffers->splits
};

// What differs from layer to layer.
struct LayerInputs {
  const float* q = nullptr;  // [T, H, Dk], token stride q_stride
  int64_t q_stride = 0;
  kernels::PagedKv kv;   // this step's keys and values are already written
  float* out = nullptr;  // [T, H, Dv], token stride out_stride
  int64_t out_stride = 0;
  const float* sinks = nullptr;  // [H] or null
  float* lse = nullptr;          // [T, H] natural log of the denominator, sinks included; or null
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Capabilities& capabilities() const = 0;

  // Allocates the buffers that plan() needs for steps within `limits`.
  virtual Expected<PlanBuffers> make_buffers(const AttentionDesc& desc, const PlanLimits& limits) const = 0;

  // Once per step and class. desc must outlive the plan.
  virtual Plan plan(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) const = 0;

  // Once per layer. Never allocates. internal_error when the plan was made by another backend or for another
  // class than `desc`, or for another step than `step`.
  virtual Status run(const Plan& plan, const AttentionDesc& desc, uint64_t step, const LayerInputs& inputs,
                     ThreadPool& pool) const = 0;

  std::string_view name() const { return capabilities().name; }

 protected:
  // What every run() checks first: plan, class, step, inputs and pool belong together.
  Status check_plan(const Plan& plan, const AttentionDesc& desc, uint64_t step, const LayerInputs& inputs,
                    const ThreadPool& pool) const;
};

// All CPU backends: tiled, streaming, unified, reference.
std::span<const Backend* const> cpu_backends();
// These and cuda_backends(), whether or not this program can run them.
std::span<const Backend* const> all_backends();
const Backend* find_backend(
    std::string_view name_or_alias);  // null when unknown; aliases: attention/aliases.h

}  // namespace bifocal::attention
