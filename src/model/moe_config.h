// Fields of config.json that families with experts share. Errors name the file and the field.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "weights/model_config.h"

namespace bifocal::model {

class MoeConfig {
 public:
  // `config` must outlive this.
  explicit MoeConfig(const weights::ModelConfig& config) : config_(config) {}

  Expected<int> num_experts() const;                       // num_experts or num_local_experts
  Expected<int> experts_per_token(int num_experts) const;  // num_experts_per_tok
  Expected<int> width(std::string_view key) const;         // required
  Expected<bool> flag(std::string_view key, bool fallback) const;
  Expected<double> number(std::string_view key, double min, double max, double fallback) const;
  // Of each layer: by decoder_sparse_step and mlp_only_layers.
  Expected<std::vector<bool>> sparse_layers() const;

 private:
  Expected<int> integer(std::string_view key, int64_t max) const;
  const weights::ModelConfig& config_;
};

}  // namespace bifocal::model
