#include "model/families.h"

#include <fmt/format.h>

#include <array>

namespace bifocal::model {
namespace {

constexpr std::array kFamilies = {&kDeepseekV2Family, &kDeepseekV3Family, &kGptOssFamily,  &kLlamaFamily,
                                  &kQwen2Family,      &kQwen3Family,      &kQwen3MoeFamily};

}  // namespace

std::span<const Family* const> families() {
  return kFamilies;
}

std::span<const std::string_view> supported_architectures() {
  static const auto names = [] {
    std::array<std::string_view, kFamilies.size()> out;
    for (size_t i = 0; i < kFamilies.size(); ++i) out[i] = kFamilies[i]->architecture;
    return out;
  }();
  return names;
}

Expected<ModelSpec> make_spec(const weights::ModelConfig& config) {
  for (const Family* family : kFamilies) {
    if (family->architecture != config.architecture) continue;
    BIFOCAL_ASSIGN_OR_RETURN(ModelSpec spec, family->make_spec(config));
    spec.family = family->name;
    spec.architecture = family->architecture;
    return spec;
  }
  return unsupported(fmt::format("{}: architectures: \"{}\" is not supported; expected one of {}",
                                 config.path, config.architecture,
                                 fmt::join(supported_architectures(), ", ")));
}

}  // namespace bifocal::model
