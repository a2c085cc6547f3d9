#include "attention/mla_attention.h"

#include <algorithm>

#include "base/check.h"

namespace bifocal::attention {

Expected<std::unique_ptr<MlaAttention>> MlaAttention::create(const Router& router,
                                                             std::span<const AttentionDesc> classes,
                                                             size_t latent, size_t expanded,
                                                             const PlanLimits& limits) {
  BIFOCAL_CHECK(classes[expanded] == expanded_class(classes[latent]));
  std::unique_ptr<MlaAttention> out(new MlaAttention(router, classes[latent], limits));
  BIFOCAL_ASSIGN_OR_RETURN(out->expanded_,
                           MlaExpanded::create(classes[latent], classes[expanded],
                                               *router.decide(expanded, Phase::prefill).backend, limits,
                                               out->policy_.options().max_kv_chunk_tokens));
  for (size_t p = 0; p < kNumPhases; ++p) {
    out->backends_[p] = router.decide(latent, static_cast<Phase>(p)).backend;
    BIFOCAL_ASSIGN_OR_RETURN(out->buffers_[p], out->backends_[p]->make_buffers(classes[latent], limits));
  }
  const int64_t floats = std::max(out->absorbed_.workspace_floats(), out->expanded_->workspace_floats());
  const size_t scratch_bytes =
      std::max(out->absorbed_.gemm_scratch_bytes(), out->expanded_->gemm_scratch_bytes());
  BIFOCAL_ASSIGN_OR_RETURN(out->workspace_, Tensor::allocate(DType::f32, {floats}));
  BIFOCAL_ASSIGN_OR_RETURN(out->gemm_scratch_,
                           Tensor::allocate(DType::u8, {static_cast<int64_t>(scratch_bytes)}));
  return out;
}

bool MlaAttention::plan(const AttentionBatch& batch) {
  const auto p = static_cast<size_t>(batch.phase);
  forms_[p] = policy_.choose(latent_, batch, expanded_->capacity_tokens()).form;
  // Where there is no memory to plan one more chunk, the form that needs none.
  if (forms_[p] != MlaForm::absorbed && !expanded_->plan(batch, forms_[p] == MlaForm::chunked).ok()) {
    forms_[p] = MlaForm::absorbed;
  }
  if (forms_[p] != MlaForm::absorbed) return true;
  plans_[p] = backends_[p]->plan(latent_, batch, buffers_[p]);
  return false;
}

Status MlaAttention::run(Phase phase, uint64_t step, const MlaInputs& inputs, ThreadPool& pool) {
  const auto p = static_cast<size_t>(phase);
  const MlaWorkspace workspace{workspace_.view().as<float>(), gemm_scratch_.view().data};
  if (forms_[p] == MlaForm::absorbed) return absorbed_.run(plans_[p], step, inputs, workspace, pool);
  return expanded_->run(step, inputs, workspace, pool);
}

size_t MlaAttention::num_bytes() const {
  size_t bytes =
      workspace_.view().num_bytes() + gemm_scratch_.view().num_bytes() + expanded_->plan_buffer_bytes();
  for (const PlanBuffers& buffers : buffers_) bytes += buffers.num_bytes();
  return bytes;
}

}  // namespace bifocal::attention
