#include "attention/aliases.h"

#include <fmt/format.h>

#include "attention/backend.h"

namespace bifocal::attention {
namespace {

// Kernels known for prefill are served by the prefill kernel, those known for decode by the decode kernel,
// and those that are one kernel for everything by `unified`, or on a GPU by the one that serves every phase.
constexpr Alias kAliases[] = {
    {"fa3", "tiled", "prefill_ws"},
    {"fa4", "tiled", "prefill_ws"},
    {"intel_amx", "tiled", "prefill_ws"},
    {"dual_chunk_flash_attn", "tiled", "prefill_ws"},
    {"flashinfer", "streaming", "decode_mma"},
    {"trtllm_mha", "streaming", "decode_mma"},
    {"flashmla", "streaming", "decode_mma"},
    {"cutlass_mla", "streaming", "decode_mma"},
    {"trtllm_mla", "streaming", "decode_mma"},
    {"cutedsl_mla", "streaming", "decode_mma"},
    {"tokenspeed_mla", "streaming", "decode_mma"},
    {"triton", "unified", "prefill_ws"},
    {"aiter", "unified", "prefill_ws"},
    {"wave", "unified", "prefill_ws"},
    {"ascend", "unified", "prefill_ws"},
    {"intel_xpu", "unified", "prefill_ws"},
    {"torch_native", "reference", ""},
    {"flex_attention", "reference", ""},
};

}  // namespace

std::span<const Alias> backend_aliases() {
  return kAliases;
}

std::string_view resolve_backend_name(std::string_view name_or_alias, DeviceKind device) {
  for (const Backend* backend : all_backends()) {
    if (backend->name() == name_or_alias) return backend->name();
  }
  for (const Alias& alias : kAliases) {
    if (alias.name == name_or_alias) return alias.on(device);
  }
  return {};
}

std::string describe_backend_names(std::span<const Backend* const> backends) {
  std::string text;
  for (const Backend* backend : backends) {
    std::string aliases;
    for (const Alias& alias : kAliases) {
      if (alias.on(backend->capabilities().device) == backend->name())
        aliases += fmt::format("{}{}", aliases.empty() ? "" : ", ", alias.name);
    }
    text += fmt::format("{}{}", text.empty() ? "" : ", ", backend->name());
    if (!aliases.empty()) text += fmt::format(" (also {})", aliases);
  }
  return text;
}

}  // namespace bifocal::attention
