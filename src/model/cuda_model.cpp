#include "model/cuda_model.h"

#include <utility>

#include "attention/cuda_planner.h"
#include "kernels/cuda/gpu_trace.h"
#include "kernels/cuda/stream.h"
#include "model/cuda_executor.h"
#include "model/cuda_weights.h"

namespace bifocal::model {

namespace cuda = kernels::cuda;

namespace {

class CudaModel final : public Model {
 public:
  CudaModel(ModelSpec spec, CudaWeights weights, const CudaModelOptions& options)
      : spec_(std::move(spec)),
        weights_(std::move(weights)),
        classes_(model::attention_classes(spec_, DType::bf16, options.page_size, DeviceKind::cuda)),
        graphs_(options.graphs),
        linear_table_(options.linear_table) {}

  const ModelSpec& spec() const override { return spec_; }
  std::span<const attention::AttentionDesc> attention_classes() const override { return classes_.descs; }
  uint64_t weight_bytes() const override { return weights_.num_bytes; }
  uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const override {
    return cuda_workspace_bytes(spec_, max_tokens, max_logit_rows);
  }
  Expected<std::unique_ptr<Executor>> make_executor(const ExecutorOptions& options) override {
    return make_cuda_executor(spec_, weights_, classes_, graphs_, linear_table_, options);
  }

 private:
  ModelSpec spec_;
  CudaWeights weights_;
  AttentionClasses classes_;
  CudaGraphOptions graphs_;
  kernels::cuda::LinearTable linear_table_;
};

}  // namespace

Expected<CudaDevice> find_cuda_device() {
  BIFOCAL_ASSIGN_OR_RETURN(const cuda::DeviceTraits device, cuda::current_device());
  BIFOCAL_ASSIGN_OR_RETURN(const cuda::DeviceMemoryInfo memory, cuda::device_memory_info());
  return CudaDevice{device.name, memory.free_bytes, memory.total_bytes};
}

Expected<std::unique_ptr<Model>> load_cuda_model(const ModelSpec& spec, weights::WeightSource* source,
                                                 const CudaModelOptions& options, Progress* progress) {
  BIFOCAL_RETURN_IF_ERROR(check_cuda_support(spec));
  BIFOCAL_RETURN_IF_ERROR(find_cuda_device().status());
  cuda::trace_gpu();
  BIFOCAL_ASSIGN_OR_RETURN(CudaWeights weights, load_cuda_weights(spec, source, options, progress));
  return std::unique_ptr<Model>(std::make_unique<CudaModel>(spec, std::move(weights), options));
}

Expected<uint64_t> cuda_plan_bytes(const attention::Router& router,
                                   std::span<const attention::AttentionDesc> classes,
                                   const attention::PlanLimits& limits) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto planner, attention::CudaPlanner::create(router, classes, limits));
  return planner->buffer_bytes();
}

}  // namespace bifocal::model
