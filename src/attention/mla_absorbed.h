// MLA without expanding anything: queries are projected into the latent space (q UK), attend to the latents
// as keys and values of one KV head, and what comes out is projected to the heads' values (UV). For few
// queries.
#pragma once

#include <vector>

#include "attention/backend.h"
#include "attention/mla_inputs.h"

namespace bifocal::attention {

class MlaAbsorbed {
 public:
  // desc is of kind mla and outlives this.
  MlaAbsorbed(const AttentionDesc& desc, const PlanLimits& limits);

  int64_t workspace_floats() const { return out_offset_ + max_tokens_ * out_stride_; }
  size_t gemm_scratch_bytes() const;

  // `plan` is of a backend for desc. Rows of other phases are left alone.
  Status run(const Plan& plan, uint64_t step, const MlaInputs& inputs, const MlaWorkspace& workspace,
             ThreadPool& pool);

 private:
  const AttentionDesc& desc_;
  int64_t max_tokens_;
  int64_t q_stride_;    // [T, H, R + Dr]
  int64_t out_stride_;  // [T, H, R]
  int64_t out_offset_;
  std::vector<kernels::cpu::GemmArgs> products_;
};

}  // namespace bifocal::attention
