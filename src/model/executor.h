// A model at work on its device: its cache, plans and buffers, and steps run through it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "attention/planner.h"
#include "base/status.h"
#include "kernels/chosen_token.h"
#include "kernels/sample_params.h"
#include "kv/page_id.h"

namespace bifocal::model {

// The token rows of a step: T rows, sequences one after another.
struct StepRows {
  // [T]; or kernels::chosen_at(r): what the step before chose at its logit row r, if that was submitted
  // and is not collected.
  std::span<const int32_t> token_ids;
  std::span<const int32_t> positions;   // [T]
  std::span<const int64_t> kv_slots;    // [T] page * page_size + token in page
  std::span<const int32_t> logit_rows;  // [R] rows whose logits are wanted
  // [R] 1: the row's logits are read; 0: only its token is, where the device chooses one. Empty: all are
  // read.
  std::span<const uint8_t> read_logits = {};
  // [T] the same as kv_slots in the pages of layers with a window; empty where these have none of their own.
  std::span<const int64_t> window_slots = {};
  // [R] how a device chooses the rows' tokens. Empty: greedily.
  std::span<const kernels::SampleParams> sampling = {};

  // Where a layer's keys and values go.
  std::span<const int64_t> slots(kv::PageKind kind) const {
    return kind == kv::PageKind::full ? kv_slots : window_slots;
  }
};

struct ExecutorOptions {
  attention::RouterOptions attention;
  attention::PlanLimits limits;  // rows, sequences and keys of a step
  int max_logit_rows = 0;        // R of a step
  int num_pages = 0;             // of the cache
  int num_window_pages = 0;      // of layers with a window; 0: these have no pages of their own
  bool time_idle = false;        // measure Executor::idle_before_ns()
};

constexpr int32_t kUnsoundRow = -1;

class Executor {
 public:
  virtual ~Executor() = default;

  virtual int num_pages() const = 0;
  // Of layers with a window; 0: these have no pages of their own.
  virtual int num_window_pages() const { return 0; }
  virtual int page_size() const = 0;

  // Before the rows of the next step: the first num_tokens tokens of a page, in every layer.
  virtual Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) = 0;
  // The same of a window page, in layers with a window.
  virtual Status copy_window_tokens(kv::PageId, kv::PageId, int) {
    return internal_error("this executor has no window pages");
  }

  // Begins a step; the arrays are the caller's again. Steps run in the order in which they are submitted.
  virtual Status submit(const StepRows& rows, const attention::StepBatch& batch) = 0;
  // Waits for the oldest step that is not collected. The results below are its own until the next submit(),
  // and undefined after an error.
  virtual Status collect() = 0;
  // How many steps may be submitted and not collected. 2: the device runs one while the host prepares the
  // next. A step whose logits are read is collected before the next is submitted.
  virtual int max_in_flight() const { return 1; }
  Status run(const StepRows& rows, const attention::StepBatch& batch) {
    BIFOCAL_RETURN_IF_ERROR(submit(rows, batch));
    return collect();
  }

  // f32 [V] of logit row `row`, on the host.
  virtual const float* logits(int32_t row) const = 0;
  // [R] the rows' tokens, chosen as StepRows::sampling says; kUnsoundRow where a row has a NaN, +Inf or
  // nothing finite. Empty where the device leaves that to the reader of the logits.
  virtual std::span<const int32_t> tokens() const = 0;
  // How long the device computed nothing before this step, from the end of the step before. Empty where it
  // isn't measured, and for the first step.
  virtual std::optional<int64_t> idle_before_ns() const { return std::nullopt; }

  virtual std::span<const attention::AttentionDesc> classes() const = 0;
  virtual const attention::Router& router() const = 0;
  virtual const attention::PhaseCounters& counters(size_t class_index, attention::Phase phase) const = 0;
};

}  // namespace bifocal::model
