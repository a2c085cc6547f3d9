// A program without CUDA.
#include "model/cuda_model.h"

namespace bifocal::model {
namespace {

Status absent() {
  return unavailable("this program was built without CUDA (cmake --preset cuda); use --device cpu");
}

}  // namespace

Expected<CudaDevice> find_cuda_device() {
  return absent();
}
Expected<std::unique_ptr<Model>> load_cuda_model(const ModelSpec&, weights::WeightSource*,
                                                 const CudaModelOptions&, Progress*) {
  return absent();
}
Expected<LinearTuning> tune_cuda_linears(const ModelSpec&, const std::vector<int>&) {
  return absent();
}
uint64_t cuda_workspace_bytes(const ModelSpec&, int, int) {
  return 0;
}
Expected<uint64_t> cuda_plan_bytes(const attention::Router&, std::span<const attention::AttentionDesc>,
                                   const attention::PlanLimits&) {
  return absent();
}

}  // namespace bifocal::model
