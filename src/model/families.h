// The decoder families that can be served: architecture name in config.json to ModelSpec. A family is one
// file, family_<name>.cpp, with a function and an entry here.
#pragma once

#include <span>
#include <string_view>

#include "base/status.h"
#include "model/spec.h"
#include "weights/model_config.h"

namespace bifocal::model {

struct Family {
  std::string_view name;          // "qwen3"
  std::string_view architecture;  // "Qwen3ForCausalLM"
  Expected<ModelSpec> (*make_spec)(const weights::ModelConfig& config);
};

extern const Family kDeepseekV2Family;
extern const Family kDeepseekV3Family;
extern const Family kGptOssFamily;
extern const Family kLlamaFamily;
extern const Family kQwen2Family;
extern const Family kQwen3Family;
extern const Family kQwen3MoeFamily;

std::span<const Family* const> families();
std::span<const std::string_view> supported_architectures();

// Errors: unsupported with the list of architectures, or for a setting that changes the architecture in a way
// that the family does not know; invalid_argument for fields that do not fit together. They name config.json
// and the field.
Expected<ModelSpec> make_spec(const weights::ModelConfig& config);

}  // namespace bifocal::model
