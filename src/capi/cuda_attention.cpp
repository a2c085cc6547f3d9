#include <cuda_runtime_api.h>

#include "attention/cuda_planner.h"
#include "capi/device_attention.h"
#include "kernels/cuda/device_memory.h"

namespace bifocal::capi {
namespace {

namespace cuda = kernels::cuda;

class CudaAttention final : public DeviceAttention {
 public:
  explicit CudaAttention(const attention::AttentionDesc& desc) : desc_(desc) {}

  Status open(const attention::Router& router, const attention::PlanLimits& limits) {
    BIFOCAL_ASSIGN_OR_RETURN([[maybe_unused]] const cuda::DeviceTraits device, cuda::current_device());
    BIFOCAL_ASSIGN_OR_RETURN(planner_, attention::CudaPlanner::create(router, {&desc_, 1}, limits));
    return {};
  }

  Status set_cache(void* k, void* v, int num_pages) override {
    BIFOCAL_ASSIGN_OR_RETURN(maps_, cuda::make_kv_maps(paged_cache(desc_, k, v), num_pages));
    return {};
  }

  Status plan(const bifocal_attention_batch& batch, void* stream) override {
    planned_ = false;
    attention::CudaBatch step;
    step.num_seqs[static_cast<size_t>(attention::Phase::prefill)] = batch.num_prefill;
    step.num_seqs[static_cast<size_t>(attention::Phase::decode)] = batch.num_decode;
    step.q_begin = batch.q_begin;
    step.q_len = batch.q_len;
    step.kv_len = batch.kv_len;
    step.page_table = batch.page_table;
    step.page_table_stride = batch.page_table_stride;
    BIFOCAL_RETURN_IF_ERROR(planner_->plan(step, after_everything(stream)));
    planned_ = true;
    return {};
  }

  Status run(const bifocal_attention_layer& layer, void* stream) override {
    if (!planned_) return invalid_argument("no step is planned: call bifocal_attention_plan first");
    attention::CudaLayerInputs inputs;
    inputs.q = static_cast<const uint16_t*>(layer.q);
    inputs.out = static_cast<uint16_t*>(layer.out);
    inputs.num_tokens = layer.num_tokens;
    inputs.kv = &maps_;
    inputs.first_page = layer.first_page;
    inputs.sinks = layer.sinks;
    return planner_->run(0, inputs, after_everything(stream));
  }

 private:
  // Nobody knows what kernel of the caller's is ahead, or what it writes.
  static cuda::LaunchOptions after_everything(void* stream) {
    return {static_cast<cudaStream_t>(stream), false, false};
  }

  const attention::AttentionDesc& desc_;
  std::unique_ptr<attention::CudaPlanner> planner_;
  cuda::KvMaps maps_;
  bool planned_ = false;
};

}  // namespace

Expected<std::unique_ptr<DeviceAttention>> make_cuda_attention(const attention::Router& router,
                                                               const attention::AttentionDesc& desc,
                                                               const attention::PlanLimits& limits) {
  auto made = std::make_unique<CudaAttention>(desc);
  BIFOCAL_RETURN_IF_ERROR(made->open(router, limits));
  return std::unique_ptr<DeviceAttention>(std::move(made));
}

}  // namespace bifocal::capi
