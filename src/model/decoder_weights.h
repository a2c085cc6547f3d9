// A decoder's parameters: which tensors a spec needs, whether a checkpoint has exactly those, and their
// packed form.
#pragma once

#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "model/gqa_block.h"
#include "model/mla_block.h"
#include "model/mlp_block.h"
#include "model/moe_block.h"
#include "model/spec.h"
#include "tensor/tensor.h"
#include "weights/weight_source.h"

namespace bifocal::model {

// Absent vectors are empty tensors.
struct LayerWeights {
  Tensor attention_norm;  // [hidden]
  GqaWeights gqa;         // empty where mla is not
  MlaWeights mla;
  kernels::cpu::PackedMatrix attn_output;  // [hidden, H Dv]
  Tensor attn_output_bias;                 // [hidden]
  Tensor mlp_norm;                         // [hidden]
  MlpWeights mlp;                          // empty where moe is not
  MoeWeights moe;
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
