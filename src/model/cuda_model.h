// Models on a GPU, as the rest of the program asks for them. In a program that was built without CUDA every
// call answers `unavailable` and says so.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/router.h"
#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cuda/linear_table.h"
#include "model/model.h"
#include "weights/weight_source.h"

namespace bifocal::model {

struct CudaDevice {
  std::string name;  // "NVIDIA H200"
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
// unavailable: no GPU, no driver, a GPU that the kernels are not built for, or a program without them.
Expected<CudaDevice> find_cuda_device();

// Which captured decode steps a model keeps: --cuda-graph-max-bs, --cuda-graph-bs, --disable-cuda-graph.
struct CudaGraphOptions {
  bool enabled = true;
  int max_batch = 160;       // sequences
  std::vector<int> batches;  // ascending; empty: 1, 2, 4, 8 and every further multiple of 8
};
// The batch sizes that are captured for steps of up to max_seqs sequences: the largest covers max_batch.
std::vector<int> cuda_graph_batches(const CudaGraphOptions& options, int max_seqs);

struct CudaModelOptions {
  int page_size = 64;  // tokens
  bool dummy = false;  // random weights, made on the GPU
  uint64_t dummy_seed = 0;
  CudaGraphOptions graphs;
  kernels::cuda::LinearTable linear_table;  // of tune_cuda_linears; empty: rules alone choose
  std::shared_ptr<ThreadPool> pool;         // brings weights over; not null
};

// unsupported, naming what: layers that no CUDA kernel serves yet (experts, latents, head dims).
Status check_cuda_support(const ModelSpec& spec);

// source: null with dummy. progress may be null; it advances by the bytes brought over or made.
Expected<std::unique_ptr<Model>> load_cuda_model(const ModelSpec& spec, weights::WeightSource* source,
                                                 const CudaModelOptions& options, Progress* progress);

// A product of a model, timed: microseconds of our own kernel (0 where it doesn't serve), of cuBLASLt's first
// guess and of the fastest of all.
struct LinearTuneRow {
  std::string name;  // "qkv"
  kernels::cuda::LinearShape shape;
  double skinny_us = 0.0;
  double first_us = 0.0;
  double best_us = 0.0;
  std::string best;  // as LinearMeasured has it
};
struct LinearTuning {
  kernels::cuda::LinearTable table;
  std::vector<LinearTuneRow> rows;
};
// Times every candidate for the matrix products of a model's layers, for steps of the given numbers of rows,
// by default and in deterministic mode. With a progress bar.
Expected<LinearTuning> tune_cuda_linears(const ModelSpec& spec, const std::vector<int>& rows);

uint64_t cuda_workspace_bytes(const ModelSpec& spec, int max_tokens, int max_logit_rows);
// What the attention kernels' plans take. Takes it for a moment.
Expected<uint64_t> cuda_plan_bytes(const attention::Router& router,
                                   std::span<const attention::AttentionDesc> classes,
                                   const attention::PlanLimits& limits);

}  // namespace bifocal::model
