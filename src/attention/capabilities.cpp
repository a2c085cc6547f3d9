#include "attention/capabilities.h"

#include <fmt/format.h>

#include <algorithm>

namespace bifocal::attention {
namespace {

template <class T>
bool contains(const std::vector<T>& values, T value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

template <class T>
std::string join(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += fmt::format("{}{}", text.empty() ? "" : ", ", to_string(value));
  return text;
}

bool has_head_dims(const Capabilities& capabilities, const AttentionDesc& desc) {
  if (capabilities.head_dims.empty()) {
    return desc.head_dim_k % capabilities.head_dim_multiple == 0 &&
           desc.head_dim_v % capabilities.head_dim_multiple == 0;
  }
  return std::any_of(capabilities.head_dims.begin(), capabilities.head_dims.end(), [&](const HeadDims& dims) {
    return dims.k == desc.head_dim_k && dims.v == desc.head_dim_v;
  });
}

}  // namespace

std::string describe_head_dims(const Capabilities& capabilities) {
  if (capabilities.head_dims.empty()) {
    return capabilities.head_dim_multiple == 1
               ? "any"
               : fmt::format("multiples of {}", capabilities.head_dim_multiple);
  }
  std::string text;
  for (const HeadDims& dims : capabilities.head_dims) {
    text += text.empty() ? "" : ", ";
    text += dims.k == dims.v ? fmt::format("{}", dims.k) : fmt::format("{}/{}", dims.k, dims.v);
  }
  return text;
}

std::optional<std::string> pool_objection(const Capabilities& capabilities, const AttentionDesc& desc) {
  if (!contains(capabilities.kv_dtypes, desc.kv_dtype)) {
    return fmt::format("KV dtype {}: takes only {}", to_string(desc.kv_dtype), join(capabilities.kv_dtypes));
  }
  if (desc.page_size < capabilities.min_page_size || desc.page_size > capabilities.max_page_size) {
    return fmt::format("page size {}: takes only {} to {}", desc.page_size, capabilities.min_page_size,
                       capabilities.max_page_size);
  }
  return std::nullopt;
}

std::optional<std::string> ineligible_reason(const Capabilities& capabilities, const AttentionDesc& desc,
                                             Phase phase, bool need_deterministic, DeviceKind device) {
  if (capabilities.device != device) {
    return fmt::format("device: runs on {}, not on {}", to_string(Device{capabilities.device, 0}),
                       to_string(Device{device, 0}));
  }
  if (!contains(capabilities.phases, phase)) {
    return fmt::format("phase {}: serves only {}", to_string(phase), join(capabilities.phases));
  }
  if (desc.kind == Kind::mla && !capabilities.mla) return "multi-head latent attention is not offered";
  if (!has_head_dims(capabilities, desc)) {
    return fmt::format("head dims {}/{}: takes only {}", desc.head_dim_k, desc.head_dim_v,
                       describe_head_dims(capabilities));
  }
  if (!contains(capabilities.q_dtypes, desc.q_dtype)) {
    return fmt::format("query dtype {}: takes only {}", to_string(desc.q_dtype), join(capabilities.q_dtypes));
  }
  if (auto objection = pool_objection(capabilities, desc)) return objection;
  if (desc.window != 0 && !capabilities.window)
    return fmt::format("sliding window {} is not offered", desc.window);
  if (desc.sinks && !capabilities.sinks) return "attention sinks are not offered";
  if (desc.softcap != 0 && !capabilities.softcap)
    return fmt::format("logit softcap {} is not offered", desc.softcap);
  if (need_deterministic && !capabilities.deterministic) return "determinism: results depend on the batch";
  return std::nullopt;
}

}  // namespace bifocal::attention
