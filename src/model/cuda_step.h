// What a step sends to a GPU: all host arrays behind one another in pinned memory, brought over in one copy.
// Where each lies depends on the step's counts alone, so steps with the same counts share addresses.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "attention/phase.h"
#include "base/status.h"
#include "model/executor.h"

namespace bifocal::model {

// What fixes a step's shape.
struct CudaStepShape {
  int num_rows = 0;                                   // T
  int num_logit_rows = 0;                             // R
  int table_stride = 0;                               // pages of a row of the page table
  std::array<int, attention::kNumPhases> num_seqs{};  // by phase
  std::array<int, attention::kNumPhases> phase_rows{};
  int total_seqs() const { return num_seqs[0] + num_seqs[1] + num_seqs[2]; }  // B
};

CudaStepShape shape_of(const StepRows& rows, const attention::StepBatch& batch);
// The shape of a captured step: `batch` decode rows, those past the step's own being padding.
CudaStepShape decode_shape(int batch, int table_stride);

// Byte offsets of a step's arrays.
struct CudaStepLayout {
  explicit CudaStepLayout(const CudaStepShape& shape);
  int64_t token_ids = 0;   // int32 [T]
  int64_t positions = 0;   // int32 [T]
  int64_t kv_slots = 0;    // int64 [T]
  int64_t logit_rows = 0;  // int32 [R]
  int64_t sampling = 0;    // kernels::SampleParams [R]
  int64_t q_begin = 0;     // int32 [B]
  int64_t q_len = 0;       // int32 [B]
  int64_t kv_len = 0;      // int32 [B]
  int64_t page_table = 0;  // int32 [B, table_stride]
  int64_t row_kv_len = 0;  // int32 [T] keys that the row sees
  int64_t row_seq = 0;     // int32 [T] the row's sequence
  int64_t num_bytes = 0;
};

// Fills `to` (layout.num_bytes, 16-byte aligned) with the step, and what `shape` has beyond it with padding:
// rows of token -1, slot -1 and no keys, sequences of no rows, greedy choices.
void write_step(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& shape,
                const CudaStepLayout& layout, std::byte* to);

}  // namespace bifocal::model
