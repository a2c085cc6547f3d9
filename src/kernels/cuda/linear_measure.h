// Which kind of matrix product is fastest for a shape on this device.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/linear_table.h"

namespace bifocal::kernels::cuda {

struct LinearCandidates {
  LinearProduct product;        // timed with max_m rows
  std::vector<int> guess_rows;  // M that cuBLASLt is asked for: its guesses differ
  // Null: all, cuBLASLt's with split-K too. Else the fastest that this admits, and without it.
  std::function<Expected<bool>(const LinearChoice&)> admits;
  int num_sms = 0;
  void* skinny_workspace = nullptr;
  void* cublaslt_workspace = nullptr;
};

struct LinearMeasured {
  LinearChoice choice;
  double skinny_us = 0.0;  // of our own product; 0 where it doesn't serve the shape
  double first_us = 0.0;   // of cuBLASLt's first guess for the first of guess_rows
  std::string best;        // "skinny", or CublasLt::describe
};

// In a graph of products that each read other weights, together more than the L2 holds. Allocates and
// synchronises. unsupported: no candidate was admitted.
Expected<LinearMeasured> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt);

}  // namespace bifocal::kernels::cuda
