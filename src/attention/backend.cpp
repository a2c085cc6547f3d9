#include "attention/backend.h"

#include <fmt/format.h>

#include <vector>

#include "attention/aliases.h"
#include "attention/cuda_backends.h"
#include "attention/reference_backend.h"
#include "attention/span_backend.h"

namespace bifocal::attention {

std::array<const Tensor*, 10> PlanBuffers::tensors() const {
  return {&items, &parts, &splits, &partials, &sequences, &order, &groups, &members, &shared, &scratch};
}

size_t PlanBuffers::num_bytes() const {
  size_t bytes = 0;
  for (const Tensor* tensor : tensors()) {
    if (!tensor->empty()) bytes += tensor->view().num_bytes();
  }
  return bytes;
}

Status Backend::check_plan(const Plan& plan, const AttentionDesc& desc, uint64_t step,
                           const LayerInputs& inputs, const ThreadPool& pool) const {
  if (plan.backend != this) {
    return internal_error(fmt::format("attention backend {} was given a plan of {}", name(),
                                      plan.backend == nullptr ? "nobody" : plan.backend->name()));
  }
  if (plan.desc == nullptr || *plan.desc != desc) {
    return internal_error(fmt::format("attention class {} was given the plan of class {}", to_string(desc),
                                      plan.desc == nullptr ? "none" : to_string(*plan.desc)));
  }
  if (plan.batch.step != step) {
    return internal_error(
        fmt::format("attention in step {} was given the plan of step {}", step, plan.batch.step));
  }
  const kernels::PagedKv& kv = inputs.kv;
  if (kv.page_size != desc.page_size || kv.dtype != desc.kv_dtype || kv.num_kv_heads != desc.num_kv_heads ||
      kv.head_dim_k != desc.head_dim_k || kv.head_dim_v != desc.head_dim_v) {
    return internal_error(fmt::format(
        "the KV cache ({} heads, dims {}/{}, {}, page {}) is not that of class {}", kv.num_kv_heads,
        kv.head_dim_k, kv.head_dim_v, to_string(kv.dtype), kv.page_size, to_string(desc)));
  }
  if (desc.sinks && inputs.sinks == nullptr) {
    return internal_error(fmt::format("attention class {} was given no sinks", to_string(desc)));
  }
  if (pool.num_threads() > plan.buffers->limits.num_threads) {
    return internal_error(fmt::format("attention planned for {} threads was given a pool of {}",
                                      plan.buffers->limits.num_threads, pool.num_threads()));
  }
  return {};
}

std::span<const Backend* const> cpu_backends() {
  static const Backend* const backends[] = {&tiled_backend(), &streaming_backend(), &unified_backend(),
                                            &reference_backend()};
  return backends;
}

std::span<const Backend* const> all_backends() {
  static const std::vector<const Backend*> backends = [] {
    std::vector<const Backend*> all(cpu_backends().begin(), cpu_backends().end());
    all.insert(all.end(), cuda_backends().begin(), cuda_backends().end());
    return all;
  }();
  return backends;
}

const Backend* find_backend(std::string_view name_or_alias) {
  const std::string_view name = resolve_backend_name(name_or_alias);
  for (const Backend* backend : all_backends()) {
    if (backend->name() == name) return backend;
  }
  return nullptr;
}

}  // namespace bifocal::attention
