#include "attention/desc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace bifocal::attention {

AttentionDesc expanded_class(const AttentionDesc& mla) {
  constexpr int kExpandedPageSize = 64;
  AttentionDesc desc;
  desc.num_heads = desc.num_kv_heads = mla.num_heads;
  desc.head_dim_k = mla.expanded_head_dim_k;
  desc.head_dim_v = mla.expanded_head_dim_v;
  desc.softcap = mla.softcap;
  desc.scale = mla.scale;
  desc.q_dtype = mla.q_dtype;
  desc.kv_dtype = mla.kv_dtype == DType::f8_e4m3 ? DType::bf16 : mla.kv_dtype;
  desc.page_size = kExpandedPageSize;
  return desc;
}

bool is_expansion(std::span<const AttentionDesc> classes, size_t index) {
  return std::any_of(classes.begin(), classes.end(), [&](const AttentionDesc& desc) {
    return desc.expanded_head_dim_k != 0 && expanded_class(desc) == classes[index];
  });
}

Status validate(const AttentionDesc& desc) {
  if (desc.num_heads <= 0 || desc.num_kv_heads <= 0 || desc.num_heads % desc.num_kv_heads != 0) {
    return invalid_argument(fmt::format(
        "attention with {} heads and {} KV heads: expected the first to be a positive multiple of the second",
        desc.num_heads, desc.num_kv_heads));
  }
  if (desc.head_dim_k <= 0 || desc.head_dim_v <= 0) {
    return invalid_argument(
        fmt::format("attention head dims {}/{}: expected both above 0", desc.head_dim_k, desc.head_dim_v));
  }
  const bool expands = desc.expanded_head_dim_k != 0 || desc.expanded_head_dim_v != 0;
  if (expands && (desc.kind != Kind::mla || desc.num_kv_heads != 1 || desc.head_dim_v > desc.head_dim_k ||
                  desc.expanded_head_dim_k <= desc.head_dim_k - desc.head_dim_v ||
                  desc.expanded_head_dim_v <= 0 || desc.window != 0 || desc.sinks)) {
    return invalid_argument(
        fmt::format("latents of {}/{} expanded to head dims {}/{}: expected mla without window or sinks, "
                    "one KV head, and keys longer than the {} dims with position",
                    desc.head_dim_k, desc.head_dim_v, desc.expanded_head_dim_k, desc.expanded_head_dim_v,
                    desc.head_dim_k - desc.head_dim_v));
  }
  if (desc.page_size <= 0)
    return invalid_argument(fmt::format("page size {}: expected above 0", desc.page_size));
  if (desc.window < 0) {
    return invalid_argument(
        fmt::format("sliding window {}: expected 0 (none) or the keys it spans", desc.window));
  }
  if (!(desc.softcap >= 0) || !std::isfinite(desc.softcap) || !std::isfinite(desc.scale)) {
    return invalid_argument(
        fmt::format("softcap {} and scale {}: expected finite numbers, the softcap not negative",
                    desc.softcap, desc.scale));
  }
  return {};
}

std::string to_string(const AttentionDesc& desc) {
  std::string key = fmt::format("{}_h{}_kv{}_d{}", desc.kind == Kind::mla ? "mla" : "gqa", desc.num_heads,
                                desc.num_kv_heads, desc.head_dim_k);
  if (desc.head_dim_v != desc.head_dim_k) key += fmt::format("v{}", desc.head_dim_v);
  if (desc.expanded_head_dim_k != 0)
    key += fmt::format("_e{}v{}", desc.expanded_head_dim_k, desc.expanded_head_dim_v);
  if (desc.window != 0) key += fmt::format("_w{}", desc.window);
  if (desc.sinks) key += "_sinks";
  if (desc.softcap != 0) key += fmt::format("_cap{}", desc.softcap);
  if (desc.scale != 1.0F / std::sqrt(static_cast<float>(desc.head_dim_k)))
    key += fmt::format("_scale{}", desc.scale);
  if (desc.q_dtype != DType::f32) key += fmt::format("_q{}", to_string(desc.q_dtype));
  return key + fmt::format("_{}_p{}", to_string(desc.kv_dtype), desc.page_size);
}

}  // namespace bifocal::attention
