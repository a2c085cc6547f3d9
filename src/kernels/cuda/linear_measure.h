// Which kind of matrix product is fastest for a shape on this device.
#pragma once

#include <vector>

#include "base/status.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear_table.h"

namespace bifocal::kernels::cuda {

// A number of rows that products are timed with, and how often it comes.
struct TimedRows {
  int m = 0;
  double weight = 1.0;
};

struct LinearCandidates {
  std::vector<TimedRows> rows;  // the least weighted sum of times wins
  std::vector<int> guess_rows;  // M that cuBLASLt is asked for: its guesses differ
  int n = 0;                    // gated: 2 I
  int k = 0;
  bool gated = false;          // with SiLU and the product of both halves
  bool deterministic = false;  // only what serves every M, without split-K
  int num_sms = 0;
  void* skinny_workspace = nullptr;
  void* cublaslt_workspace = nullptr;
};

struct LinearMeasured {
  LinearChoice choice;     // its us is of the first of rows; m_bucket is left to the caller
  double skinny_us = 0.0;  // the same of our own product; 0 where it doesn't serve the shape
  double first_us = 0.0;   // of cuBLASLt's first guess for the first of guess_rows
};

// In a graph of products that each read other weights, together more than the L2 holds. Allocates and
// synchronises.
Expected<LinearMeasured> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt);

}  // namespace bifocal::kernels::cuda
