// A dense decoder on a GPU: what one step launches. Activations and weights are bf16, sums f32.
#pragma once

#include <cstdint>
#include <memory>

#include "attention/cuda_planner.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/stream.h"
#include "kv/cuda_kv_cache.h"
#include "model/cuda_step.h"
#include "model/cuda_weights.h"
#include "model/spec.h"

namespace bifocal::model {

// Working memory of a step, by the widths of a model's rows.
struct CudaWorkspace {
  using Memory = kernels::cuda::DeviceMemory;
  Memory residual, halfway;  // [T, hidden]; halfway: between a layer's attention and its MLP
  Memory normed;             // [T, hidden]
  Memory qkv;                // [T, (H + 2 HK) D]
  Memory q, attn;            // [T, H D]
  Memory gate_up;            // [T, 2 I]
  Memory inner;              // [T, I]
  Memory picked;             // [R, hidden]
  Memory logits;             // f32 [R, V]
  Memory tokens;             // int32 [2, R]: a step reads those of the step before
  Memory sampling;           // sample_workspace_bytes

  static Expected<CudaWorkspace> allocate(const ModelSpec& spec, int max_tokens, int max_logit_rows);
};

// Tokens on the device, int32 [R] each.
struct CudaTokens {
  const int32_t* before =
      nullptr;                // of the step before, for rows that stand for one (kernels/chosen_token.h)
  int32_t* chosen = nullptr;  // this step's
};

class CudaDecoder {
 public:
  // All must outlive the decoder.
  CudaDecoder(const ModelSpec& spec, const CudaWeights& weights, const AttentionClasses& classes,
              const kv::CudaKvCache& cache, attention::CudaPlanner& planner, const CudaWorkspace& workspace,
              kernels::cuda::Linear linear);

  // Launches a step whose arrays lie at `arrays` on the device: plans, layers, logits, the token of each
  // logit row. Neither allocates nor synchronises.
  Status enqueue(const CudaStepShape& shape, const std::byte* arrays, const CudaTokens& tokens,
                 cudaStream_t stream);

 private:
  struct Step;  // counts and addresses
  // The first layer's queries, keys and values; every other's are the last of the products of the one before.
  Status begin(const Step& step);
  Status attend(const Step& step, size_t layer);
  Status multiply(const Step& step, size_t layer);
  Status choose(const Step& step);
  Status norm(uint16_t* rows, int num_rows, const kernels::cuda::DeviceMemory& weight, uint16_t* out,
              const kernels::cuda::LaunchOptions& launch) const;

  const ModelSpec& spec_;
  const CudaWeights& weights_;
  const AttentionClasses& classes_;
  const kv::CudaKvCache& cache_;
  attention::CudaPlanner& planner_;
  const CudaWorkspace& workspace_;
  kernels::cuda::Linear linear_;
};

}  // namespace bifocal::model
