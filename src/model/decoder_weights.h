// A decoder's parameters: which tensors a spec needs, whether a checkpoint has exactly those, and their
// packed form.
#pragma once

#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "model/spec.h"
#include "tensor/tensor.h"
#include "weights/weight_source.h"

namespace bifocal::model {

// Row-concatenated projections are one product: q|k|v and gate|up. Absent vectors are empty tensors.
struct LayerWeights {
  Tensor attention_norm;                   // [hidden]
  kernels::cpu::PackedMatrix qkv;          // [(H + 2 HK) D, hidden]
  Tensor qkv_bias;                         // [(H + 2 HK) D]
  Tensor q_norm, k_norm;                   // [D]
  kernels::cpu::PackedMatrix attn_output;  // [hidden, H D]
  Tensor attn_output_bias;                 // [hidden]
  Tensor mlp_norm;                         // [hidden]
  kernels::cpu::PackedMatrix gate_up;      // [2 I, hidden]
  Tensor gate_up_bias;                     // [2 I]
  kernels::cpu::PackedMatrix down;         // [hidden, I]
  Tensor down_bias;                        // [hidden]
};

struct DecoderWeights {
  kernels::cpu::PackedMatrix embedding;  // [V, hidden]
  kernels::cpu::PackedMatrix output;     // [V, hidden]; empty when tied
  Tensor final_norm;                     // [hidden]
  std::vector<LayerWeights> layers;
  uint64_t num_bytes = 0;

  const kernels::cpu::PackedMatrix& output_matrix() const { return output.n() > 0 ? output : embedding; }
};

// Reads and packs. `source` has the tensors of expected_weights(spec). Nothing refers to it afterwards.
// progress may be null; it advances by the bytes read.
Expected<DecoderWeights> load_weights(const ModelSpec& spec, weights::WeightSource& source, DType dtype,
                                      ThreadPool& pool, Progress* progress);

}  // namespace bifocal::model
