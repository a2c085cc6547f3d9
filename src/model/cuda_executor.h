// A model's steps on a GPU: staging, eager or captured launches, results back.
#pragma once

#include <memory>

#include "model/cuda_model.h"
#include "model/cuda_weights.h"
#include "model/executor.h"

namespace bifocal::model {

// spec, weights and classes must outlive the executor. Captures the decode steps of graphs' batch sizes, with
// a progress bar.
Expected<std::unique_ptr<Executor>> make_cuda_executor(const ModelSpec& spec, const CudaWeights& weights,
                                                       const AttentionClasses& classes,
                                                       const CudaGraphOptions& graphs,
                                                       const kernels::cuda::LinearTable& linear_table,
                                                       const ExecutorOptions& options);

}  // namespace bifocal::model
