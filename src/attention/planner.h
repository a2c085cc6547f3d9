// Plans a step: splits it by phase, asks the router for a backend per (class, phase) and plans each once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "attention/mla_attention.h"
#include "attention/router.h"

namespace bifocal::attention {

// All sequences of a step: those with phase prefill first, then verify, then decode.
struct StepBatch {
  uint64_t step = 0;
  std::span<const Phase> phases;        // [B]
  std::span<const int32_t> q_begin;     // [B]
  std::span<const int32_t> q_len;       // [B]
  std::span<const int32_t> kv_len;      // [B]
  std::span<const int32_t> page_table;  // [B, page_table_stride]
  int64_t page_table_stride = 0;
  // The same for classes with a window, where these have pages of their own; empty: page_table. Entries of
  // pages before a sequence's window are never read.
  std::span<const int32_t> window_page_table = {};
};

// Counters for /metrics, /get_server_info and the proof that planning happens once per class.
struct PhaseCounters {
  uint64_t steps = 0;   // steps that had this phase
  uint64_t plans = 0;   // plan() calls
  uint64_t rows = 0;    // query tokens
  uint64_t run_ns = 0;  // time in run(), all layers
};

class Planner {
 public:
  // classes must outlive the planner.
  static Expected<std::unique_ptr<Planner>> create(const Router& router,
                                                   std::span<const AttentionDesc> classes,
                                                   const PlanLimits& limits);

  // Once per step; spans of `batch` must live until the step ends.
  void plan(const StepBatch& batch);

  // Once per layer: runs every phase of the step on its own backend.
  Status run(size_t class_index, const LayerInputs& inputs, ThreadPool& pool);
  // The same for an mla class, whose latents may be expanded.
  Status run_mla(size_t class_index, const MlaInputs& inputs, ThreadPool& pool);

  const PhaseCounters& counters(size_t class_index, Phase phase) const;
  const Router& router() const { return router_; }
  std::span<const AttentionDesc> classes() const { return classes_; }
  size_t buffer_bytes() const;

 private:
  struct Slot {  // one (class, phase)
    PlanBuffers buffers;
    std::optional<Plan> plan;
    PhaseCounters counters;
  };
  // A class of latents together with the one that they expand to.
  struct MlaPair {
    size_t latent = 0;
    size_t expanded = 0;
    std::unique_ptr<MlaAttention> attention;
    std::array<std::optional<size_t>, kNumPhases> serving;  // which of the two, where the step has the phase
  };
  Planner(const Router& router, std::span<const AttentionDesc> classes)
      : router_(router), classes_(classes) {}
  Status make_pairs(const PlanLimits& limits);
  bool in_pair(size_t class_index) const;
  static void count_plan(Slot& slot, int64_t rows);

  Router router_;
  std::span<const AttentionDesc> classes_;
  std::vector<std::array<Slot, kNumPhases>> slots_;  // [class][phase]
  std::vector<MlaPair> pairs_;
  uint64_t step_ = 0;
};

}  // namespace bifocal::attention
