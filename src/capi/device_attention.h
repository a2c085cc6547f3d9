// What stands behind the C interface: one attention class on one device.
#pragma once

#include <memory>

#include "attention/planner.h"
#include "attention/router.h"
#include "base/status.h"
#include "capi/bifocal_attention.h"
#include "kernels/paged_kv.h"

namespace bifocal::capi {

class DeviceAttention {
 public:
  virtual ~DeviceAttention() = default;
  virtual Status set_cache(void* k, void* v, int num_pages) = 0;
  virtual Status plan(const bifocal_attention_batch& batch, void* stream) = 0;
  virtual Status run(const bifocal_attention_layer& layer, void* stream) = 0;
};

// The cache as kernels see it: k and v are [P, HK, S, D].
inline kernels::PagedKv paged_cache(const attention::AttentionDesc& desc, void* k, void* v) {
  kernels::PagedKv kv;
  kv.k = k;
  kv.v = v;
  kv.dtype = desc.kv_dtype;
  kv.num_kv_heads = desc.num_kv_heads;
  kv.head_dim_k = desc.head_dim_k;
  kv.head_dim_v = desc.head_dim_v;
  kv.page_size = desc.page_size;
  kernels::set_dense_strides(kv);
  return kv;
}

// The router has decided for the class, and its limits are sound. desc outlives what is made.
Expected<std::unique_ptr<DeviceAttention>> make_cpu_attention(const attention::Router& router,
                                                              const attention::AttentionDesc& desc,
                                                              const attention::PlanLimits& limits);
Expected<std::unique_ptr<DeviceAttention>> make_cuda_attention(const attention::Router& router,
                                                               const attention::AttentionDesc& desc,
                                                               const attention::PlanLimits& limits);

}  // namespace bifocal::capi
