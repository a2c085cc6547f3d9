// Which tensors a spec needs, and whether a checkpoint has exactly those.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/spec.h"
#include "model/weight_list.h"
#include "weights/checkpoint.h"

namespace bifocal::model {

// What load_weights converts from.
bool is_loadable(DType dtype);  // f32, f16, bf16

// Every tensor of the spec, each once; the output matrix only if it is not tied.
std::vector<ExpectedWeight> expected_weights(const ModelSpec& spec);

// Where a family expects experts one by one and the file has them fused, that becomes the spec's layout.
void resolve_expert_layout(ModelSpec& spec, const weights::Checkpoint& checkpoint);

// Strict: every expected tensor is there with exactly its shape and in f32, f16 or bf16, and nothing else is
// there but rotary_emb.inv_freq (old files) and layers past the last one (multi-token prediction heads). A
// tied model's file may carry an output matrix: an equal copy is ignored; a different one is used, and
// tied_output becomes false. Resolves the experts' layout first.
Status check_weights(ModelSpec& spec, const weights::Checkpoint& checkpoint);

// Bytes that load_weights will hold: matrices in `dtype`, vectors in f32.
uint64_t planned_weight_bytes(const ModelSpec& spec, DType dtype);

}  // namespace bifocal::model
