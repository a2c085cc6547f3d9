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

std::optional<std::string> head_objection(const Capabilities& capabilities, const AttentionDesc& desc) {
  const int multiple = capabilities.head_dim_multiple;
  const auto& listed = capabilities.head_dims;
  const auto found = std::find_if(listed.begin(), listed.end(), [&](const HeadDims& dims) {
    return dims.k == desc.head_dim_k && dims.v == desc.head_dim_v;
  });
  const bool taken = listed.empty() ? desc.head_dim_k % multiple == 0 && desc.head_dim_v % multiple == 0
                                    : found != listed.end();
  if (!taken) {
    return fmt::format("head dims {}/{}: takes only {}", desc.head_dim_k, desc.head_dim_v,
                       describe_head_dims(capabilities));
  }
  const int group = desc.num_heads / desc.num_kv_heads;
  if (found != listed.end() && found->max_group != 0 && group > found->max_group) {
    return fmt::format("{} query heads on a KV head: takes at most {} of dim {}", group, found->max_group,
                       desc.head_dim_k);
  }
  return std::nullopt;
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
  if (capabilities.page_power_of_two && (desc.page_size & (desc.page_size - 1)) != 0) {
    return fmt::format("page size {}: takes only powers of two", desc.page_size);
  }
  return std::nullopt;
}

std::optional<std::string> ineligible_reason(const Capabilities& capabilities, const AttentionDesc& desc,
                                             Phase phase, bool need_deterministic, DeviceKind device) {
  if (capabilities.device != device) {
    return fmt::format("device: runs on {}, not on {}", to_string(capabilities.device), to_string(device));
  }
  if (!contains(capabilities.phases, phase)) {
    return fmt::format("phase {}: serves only {}", to_string(phase), join(capabilities.phases));
  }
  if (desc.kind == Kind::mla && !capabilities.mla) return "multi-head latent attention is not offered";
  if (auto objection = head_objection(capabilities, desc)) return objection;
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
