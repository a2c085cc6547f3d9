// A dense decoder's parameters on a GPU: bf16, matrices [N, K] row by row as checkpoints keep them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cuda/device_memory.h"
#include "model/cuda_model.h"
#include "model/spec.h"
#include "weights/weight_source.h"

namespace bifocal::model {

// Absent parts are empty.
struct CudaLayerWeights {
  using Memory = kernels::cuda::DeviceMemory;
  Memory attention_norm;         // [hidden]
  Memory qkv, qkv_bias;          // [(H + 2 HK) D, hidden]
  Memory q_norm, k_norm;         // [D]
  Memory sinks;                  // f32 [H]
  Memory output, output_bias;    // [hidden, H D]
  Memory mlp_norm;               // [hidden]
  Memory gate_up, gate_up_bias;  // [2 I, hidden], gate's rows first
  Memory down, down_bias;        // [hidden, I]
};

struct CudaWeights {
  kernels::cuda::DeviceMemory embedding;   // [V, hidden]
  kernels::cuda::DeviceMemory output;      // [V, hidden]; empty when tied
  kernels::cuda::DeviceMemory final_norm;  // [hidden]
  kernels::cuda::DeviceMemory inv_freq;    // f32 [rotary_dim / 2]
  std::vector<CudaLayerWeights> layers;
  uint64_t num_bytes = 0;

  const uint16_t* output_matrix() const { return (output.bytes() > 0 ? output : embedding).as<uint16_t>(); }
};

Expected<CudaWeights> load_cuda_weights(const ModelSpec& spec, weights::WeightSource* source,
                                        const CudaModelOptions& options, Progress* progress);

}  // namespace bifocal::model
