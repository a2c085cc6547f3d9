// Small models of every kind that the dense families can describe, for tests without files.
#pragma once

#include <vector>

#include "model/spec.h"

namespace bifocal::model {

// Qwen 3 with sliding and full layers in turn, YaRN, an output matrix of its own.
ModelSpec sliding_qk_norm_spec();
// Llama with every bias, one kv head per query head, tied, odd sizes.
ModelSpec all_biases_spec();
// One kv head, interleaved rotation of all dims.
ModelSpec interleaved_spec();
// Experts of Qwen 3's kind: one dense layer among sparse ones, weights as they come.
ModelSpec softmax_moe_spec();
// Experts of DeepSeek-V3's kind: sigmoid scores, groups, a bias for the choice, a shared expert, fused
// tensors.
ModelSpec grouped_moe_spec();
// GPT-OSS's kind: sinks, windows in turns, biases everywhere, clamped activation, [in, out] tensors with gate
// and up in turns.
ModelSpec clamped_moe_spec();
// DeepSeek's kind of attention, with every bias; queries by way of a latent, or directly.
ModelSpec latent_spec();
ModelSpec direct_latent_spec();

std::vector<ModelSpec> sample_specs();

}  // namespace bifocal::model
