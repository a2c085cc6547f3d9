// Writes a small checkpoint directory for a sample model.
#pragma once

#include <string>
#include <vector>

#include "weights/checkpoint_files.h"

namespace bifocal::model {

// Qwen 3: two layers, qk norms, an output matrix of its own.
constexpr std::string_view kSmallConfig =
    R"({"architectures":["Qwen3ForCausalLM"],"vocab_size":40,"hidden_size":16,
    "intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,
    "max_position_embeddings":64,"dtype":"float32"})";

// The tensors of the model that `config` describes, filled from a seed, as f32.
std::vector<weights::FileTensor> small_tensors(std::string_view config = kSmallConfig);

void write_checkpoint(const weights::TemporaryDirectory& directory, std::string_view config,
                      const std::vector<weights::FileTensor>& tensors);

}  // namespace bifocal::model
