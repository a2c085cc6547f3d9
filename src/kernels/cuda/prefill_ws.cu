// Prefill attention for Hopper. One persistent CTA per SM; the CTAs of a cluster take items from the plan's
// list together (prefill_plan.h), each its share of the rows. Of a CTA's warps one fetches items ahead of
// their time, for the whole cluster, one keeps a ring of blocks of keys and values full by tensor copies,
// across items, and two warpgroups multiply, 64 query rows each. A block lies at the same place in all CTAs
// of the cluster; each copies its part of it to all of them.
#include <cuda_runtime.h>

#include <bit>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_consumer.h"
#include "kernels/cuda/prefill_producer.h"
#include "kernels/cuda/prefill_shared.h"

namespace bifocal::kernels::cuda {
namespace {

template <int kD, bool kSoftcap>
__global__ void __cluster_dims__(kPrefillCtas, 1, 1) __launch_bounds__(PrefillShape<kD>::kThreads, 1)
    prefill_ws_kernel(const __grid_constant__ PrefillParams params) {
  using S = PrefillShape<kD>;
  extern __shared__ __align__(1024) uint8_t storage[];
  auto& shared = *reinterpret_cast<PrefillShared<kD>*>(storage);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&params.q_map);
    prefetch_tensor_map(params.k_map);
    prefetch_tensor_map(params.v_map);
    const auto init = [](auto& barriers, uint32_t arrivals) {
      for (uint64_t& barrier : barriers) mbarrier_init(&barrier, arrivals);
    };
    init(shared.work_full, 1);
    init(shared.work_empty, kPrefillCtas * S::kConsumerWarps);
    init(shared.q_full, 1);
    init(shared.q_empty, S::kConsumerWarps);
    init(shared.full, 1);
    init(shared.empty, kPrefillCtas * S::kConsumerWarps);
    mbarrier_init_fence();
  }
  cluster_sync();
  grid_dependency_wait();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == S::kWarpgroups) {
    give_registers<S::kProducerRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / 32 - S::kConsumerWarps;
    if (warp == 0) produce_prefill<kD>(shared, params);
    if (warp == 1) {
      if (cluster_rank() == 0) schedule_prefill<kD>(shared, params);
      launch_dependents();
    }
  } else {
    take_registers<S::kConsumerRegisters>();
    consume_prefill<kD, kSoftcap>(shared, params, warpgroup);
  }
  cluster_sync();  // nobody leaves while another CTA may arrive at its barriers
}

template <int kD, bool kSoftcap>
Status launch(const PrefillPlan& plan, const PrefillParams& params, const LaunchOptions& options) {
  constexpr int kBytes = static_cast<int>(sizeof(PrefillShared<kD>));
  static_assert(kBytes <= 227 * 1024, "an SM's shared memory");
  const auto kernel = prefill_ws_kernel<kD, kSoftcap>;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                         cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
                                    "shared memory of prefill_ws"));
  const int clusters = std::min(plan.buffers->num_sms / kPrefillCtas, plan.buffers->max_items);
  const dim3 grid(static_cast<unsigned>(clusters * kPrefillCtas));
  return launch_kernel(kernel, grid, PrefillShape<kD>::kThreads, kBytes, options, "prefill_ws", params);
}

}  // namespace

Status run_prefill(const PrefillPlan& plan, const PrefillLayer& layer, const LaunchOptions& options) {
  const PrefillDesc& desc = plan.desc;
  if (plan.batch.num_seqs == 0 || layer.num_tokens == 0) return {};
  const int group = desc.num_heads / desc.num_kv_heads;
  PrefillParams params{};
  QueryRows rows;
  rows.q = layer.q;
  rows.token_stride = layer.q_stride;
  rows.num_tokens = layer.num_tokens;
  rows.num_heads = desc.num_heads;
  rows.head_dim = desc.head_dim;
  rows.box_tokens = kPrefillRows / group;
  rows.box_heads = group;
  BIFOCAL_RETURN_IF_ERROR(make_query_map(rows, &params.q_map));
  params.records = plan.buffers->records.as<PrefillRecord>();
  params.queue = plan.buffers->queue.as<PrefillQueue>();
  params.k_map = layer.kv->k();
  params.v_map = layer.kv->v();
  params.page_table = plan.batch.page_table;
  params.page_table_stride = plan.batch.page_table_stride;
  params.out = layer.out;
  params.out_stride = layer.out_stride;
  params.sinks = layer.sinks;
  params.lse = layer.lse;
  params.origin = layer.kv->origin;
  params.page_log2 = std::countr_zero(static_cast<unsigned>(desc.page_size));
  params.first_page = layer.first_page;
  params.num_heads = desc.num_heads;
  params.group = group;
  params.q_rows = static_cast<uint32_t>(rows.box_tokens * group);
  params.group_rcp = static_cast<uint32_t>((65536 + group - 1) / group);
  params.rule = prefill_rule(desc.num_heads, desc.num_kv_heads, desc.head_dim, desc.window);
  const bool softcap = desc.softcap > 0.0F;
  params.cap = (softcap ? desc.softcap : desc.scale) * kLog2E;
  params.inner = softcap ? desc.scale / desc.softcap : 0.0F;
  switch (desc.head_dim) {
    case 64:
      return softcap ? launch<64, true>(plan, params, options) : launch<64, false>(plan, params, options);
    case 128:
      return softcap ? launch<128, true>(plan, params, options) : launch<128, false>(plan, params, options);
    case 256:
      return softcap ? launch<256, true>(plan, params, options) : launch<256, false>(plan, params, options);
    default:
      return internal_error("prefill_ws: no kernel for head dim " + std::to_string(desc.head_dim));
  }
}

}  // namespace bifocal::kernels::cuda
