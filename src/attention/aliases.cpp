#include "attention/aliases.h"

#include <fmt/format.h>

#include "attention/backend.h"

namespace bifocal::attention {
namespace {

// Kernels known for prefill are served by the prefill kernel, those known for decode by the decode kernel,
// and those that are one kernel for everything by `unified`.
constexpr Alias kAliases[] = {
    {"fa3", "tiled"},
    {"fa4", "tiled"},
    {"intel_amx", "tiled"},
    {"dual_chunk_flash_attn", "tiled"},
    {"flashinfer", "streaming"},
    {"trtllm_mha", "streaming"},
    {"flashmla", "streaming"},
    {"cutlass_mla", "streaming"},
    {"trtllm_mla", "streaming"},
    {"cutedsl_mla", "streaming"},
    {"tokenspeed_mla", "streaming"},
    {"triton", "unified"},
    {"aiter", "unified"},
    {"wave", "unified"},
    {"ascend", "unified"},
    {"intel_xpu", "unified"},
    {"torch_native", "reference"},
    {"flex_attention", "reference"},
};

}  // namespace

std::span<const Alias> backend_aliases() {
  return kAliases;
}

std::string_view resolve_backend_name(std::string_view name_or_alias) {
  for (const Backend* backend : cpu_backends()) {
    if (backend->name() == name_or_alias) return backend->name();
  }
  for (const Alias& alias : kAliases) {
    if (alias.name == name_or_alias) return alias.backend;
  }
  return {};
}

std::string describe_backend_names(std::span<const Backend* const> backends) {
  std::string text;
  for (const Backend* backend : backends) {
    std::string aliases;
    for (const Alias& alias : kAliases) {
      if (alias.backend == backend->name())
        aliases += fmt::format("{}{}", aliases.empty() ? "" : ", ", alias.name);
    }
    text += fmt::format("{}{}", text.empty() ? "" : ", ", backend->name());
    if (!aliases.empty()) text += fmt::format(" (also {})", aliases);
  }
  return text;
}

}  // namespace bifocal::attention
