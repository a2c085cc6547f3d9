// What a step needs beside weights and pages, from the spec alone: known before any weight is read.
#pragma once

#include <cstdint>

#include "model/spec.h"
#include "tensor/dtype.h"

namespace bifocal::model {

// Floats per token row of each of the decoder's buffers.
struct RowWidths {
  int64_t hidden = 0;  // residual; normed
  int64_t wide = 0;    // q|k|v, then gate|up; a router's logits
  int64_t narrow = 0;  // attention output, then activated gate
};
RowWidths row_widths(const ModelSpec& spec);

// Rows of each buffer, for steps of up to max_tokens rows and max_logit_rows logits.
int64_t workspace_rows(const ModelSpec& spec, int max_tokens, int max_logit_rows);

// Bytes in which the matrix products lay out their rows; matrices in `weights`.
uint64_t gemm_scratch_bytes(const ModelSpec& spec, DType weights, int64_t max_rows);

// All of it, for steps of up to max_tokens rows and max_logit_rows logits.
uint64_t workspace_bytes(const ModelSpec& spec, DType weights, int max_tokens, int max_logit_rows);

}  // namespace bifocal::model
