// The planner of a GPU: plans each class and phase of a step once, by a kernel that reads lengths where they
// are, and runs every layer on its plan. Host work is the same for every step with the same numbers of
// sequences, so both calls can be captured in a graph.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "attention/planner.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/prefill.h"

namespace bifocal::attention {

// Device arrays at fixed addresses; sequences and rows in the order of phases: prefill, verify, decode.
// prefill_ws takes sequences as they are. decode_mma takes every row as a sequence of its own, whatever its
// phase, and so gives it the bits that it has as a decode row; rows of one sequence share its page-table row.
struct CudaBatch {
  std::array<int, kNumPhases> num_seqs{};  // by phase
  std::array<int, kNumPhases> num_rows{};
  const int32_t* q_begin = nullptr;     // [B] first query row
  const int32_t* q_len = nullptr;       // [B] 0: padding
  const int32_t* kv_len = nullptr;      // [B] 0: padding
  const int32_t* page_table = nullptr;  // [B, page_table_stride]
  int64_t page_table_stride = 0;
  // Keys that a row sees, 0 for padding, and its sequence. Null: not known, and decode_mma takes decode
  // sequences alone, which are rows already.
  const int32_t* row_kv_len = nullptr;  // [T]
  const int32_t* row_seq = nullptr;     // [T]
};

struct CudaLayerInputs {
  const uint16_t* q = nullptr;  // bf16 [T, H, D]
  uint16_t* out = nullptr;      // bf16 [T, H, D]
  int num_tokens = 0;           // T
  const kernels::cuda::KvMaps* kv = nullptr;
  int32_t first_page = 0;        // of the layer
  const float* sinks = nullptr;  // f32 [H] or null
  // Where rotates(): what makes q and the step's keys and values on the way. Null: they are there.
  const kernels::cuda::RopeKv* rotation = nullptr;
};

class CudaPlanner {
 public:
  // Takes the memory of all plans. classes must outlive the planner. Errors: the router's wishes that no
  // kernel can fulfil were refused by the router; resource_exhausted.
  static Expected<std::unique_ptr<CudaPlanner>> create(const Router& router,
                                                       std::span<const AttentionDesc> classes,
                                                       const PlanLimits& limits);

  // Once per step: a kernel for each class and backend. unsupported: decode_mma is to serve prompts of a
  // batch without rows.
  Status plan(const CudaBatch& batch, const kernels::cuda::LaunchOptions& launch);
  // Whether run() can do a layer's rotation: in a planned step of decode rows alone, on decode_mma.
  bool rotates(size_t class_index, const kernels::cuda::RopeKv& rotation) const;
  // Once per layer: every phase of the step on its own backend. LaunchOptions::early holds for decode rows
  // alone: rows of a prompt see one another's keys, which the kernel ahead writes.
  Status run(size_t class_index, const CudaLayerInputs& inputs, const kernels::cuda::LaunchOptions& launch);

  // Rows of each phase of a step that was enqueued or replayed. Time is not known here: run_ns stays 0.
  void count(const std::array<int, kNumPhases>& rows);
  const PhaseCounters& counters(size_t class_index, Phase phase) const {
    return slots_.at(class_index).counters[static_cast<size_t>(phase)];
  }
  const Router& router() const { return router_; }
  std::span<const AttentionDesc> classes() const { return classes_; }
  uint64_t buffer_bytes() const;

 private:
  struct Slot {  // one class
    kernels::cuda::DecodeDesc decode_desc;
    kernels::cuda::PrefillDesc prefill_desc;
    // A kernel takes so many sequences at most; a step with more takes several rounds.
    std::optional<kernels::cuda::DecodeBuffers> decode_buffers;
    std::vector<kernels::cuda::PrefillBuffers> prefill_buffers;
    std::vector<kernels::cuda::DecodePlan> decode_plans;
    bool decode_rows_only = true;  // in decode_plans
    std::vector<kernels::cuda::PrefillPlan> prefill_plans;
    std::array<PhaseCounters, kNumPhases> counters;
  };
  CudaPlanner(const Router& router, std::span<const AttentionDesc> classes)
      : router_(router), classes_(classes) {}
  Status make_slot(size_t class_index, const PlanLimits& limits);
  // Neighbouring phases that one backend serves.
  struct Range {
    const Backend* backend = nullptr;
    int seq_begin = 0;
    int seq_end = 0;
    int row_begin = 0;
    int row_end = 0;
  };
  Status plan_range(Slot& slot, const Range& range, const CudaBatch& batch,
                    const kernels::cuda::LaunchOptions& launch);

  Router router_;
  std::span<const AttentionDesc> classes_;
  std::vector<Slot> slots_;
  bool decode_only_ = false;  // the planned step
};

}  // namespace bifocal::attention
