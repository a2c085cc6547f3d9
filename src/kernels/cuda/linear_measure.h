// Which kind of matrix product is fastest for a shape on this device.
#pragma once

#include "base/status.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear_table.h"

namespace bifocal::kernels::cuda {

struct LinearCandidates {
  int m = 0;
  int n = 0;
  int k = 0;
  bool deterministic = false;  // only what serves every M, without split-K
  int num_sms = 0;
  void* skinny_workspace = nullptr;
  void* cublaslt_workspace = nullptr;
};

// The fastest, in a graph of products that each read other weights, together more than the L2 holds. m_bucket
// is left to the caller.
Expected<LinearChoice> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt);

}  // namespace bifocal::kernels::cuda
