// Multi-head latent attention over the cache of latents, in the form that the policy picks for each phase of
// a step. The decoder hands over queries and projections and knows nothing of forms.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "attention/mla_absorbed.h"
#include "attention/mla_expanded.h"
#include "attention/router.h"

namespace bifocal::attention {

class MlaAttention {
 public:
  // classes[latent] is an mla class whose expanded_class() is classes[expanded]. classes outlive this.
  static Expected<std::unique_ptr<MlaAttention>> create(const Router& router,
                                                        std::span<const AttentionDesc> classes, size_t latent,
                                                        size_t expanded, const PlanLimits& limits);

  // Once per step and phase that has rows. True when the latents are expanded: the other class serves it.
  bool plan(const AttentionBatch& batch);
  // Once per layer and phase that was planned.
  Status run(Phase phase, uint64_t step, const MlaInputs& inputs, ThreadPool& pool);

  size_t num_bytes() const;  // workspace and plans

 private:
  MlaAttention(const Router& router, const AttentionDesc& latent, const PlanLimits& limits)
      : policy_(router.mla_policy()), latent_(latent), absorbed_(latent, limits) {}

  MlaPolicy policy_;
  const AttentionDesc& latent_;
  MlaAbsorbed absorbed_;
  std::unique_ptr<MlaExpanded> expanded_;
  std::array<const Backend*, kNumPhases> backends_{};  // over latents
  std::array<PlanBuffers, kNumPhases> buffers_;
  std::array<Plan, kNumPhases> plans_;
  std::array<MlaForm, kNumPhases> forms_{};
  Tensor workspace_;  // of whichever form runs
  Tensor gemm_scratch_;
};

}  // namespace bifocal::attention
