// Rotary frequencies: plain (Su et al. 2021, arXiv:2104.09864), linear interpolation, Llama 3's three bands,
// and YaRN (Peng et al. 2023, arXiv:2309.00071) in the form of transformers' modeling_rope_utils.
#pragma once

#include "model/spec.h"
#include "weights/rope_config.h"

namespace bifocal::model {

// rotary_dim is even. max_positions stands in for YaRN's original_max_position_embeddings where that is
// absent. Computed in double, rounded once.
RopeSpec make_rope(const weights::RopeConfig& config, int rotary_dim, int max_positions);

}  // namespace bifocal::model
