// MLA as ordinary attention: the latents of all keys are expanded to every head's keys and values, in memory
// that is used anew by each layer. At once where they fit; else the step's own tokens first, causally, and
// then the cached ones as many at a time as fit, merged by log-sum-exp. For many queries.
#pragma once

#include <memory>
#include <vector>

#include "attention/backend.h"
#include "attention/mla_inputs.h"

namespace bifocal::attention {

class MlaExpanded {
 public:
  // latent is of kind mla, expanded is its expanded_class(); both outlive this. At most max_kv_tokens (and
  // always a step's own tokens) are expanded at a time.
  static Expected<std::unique_ptr<MlaExpanded>> create(const AttentionDesc& latent,
                                                       const AttentionDesc& expanded, const Backend& backend,
                                                       const PlanLimits& limits, int64_t max_kv_tokens);

  int64_t capacity_tokens() const { return capacity_tokens_; }
  int64_t workspace_floats() const { return layout_.total; }
  size_t gemm_scratch_bytes() const;
  size_t plan_buffer_bytes() const;

  // Once per step. chunked: the prefixes apart from the step's own tokens, even if all would fit.
  // Errors: resource_exhausted when there is no memory to plan as many chunks.
  Status plan(const AttentionBatch& batch, bool chunked);
  Status run(uint64_t step, const MlaInputs& inputs, const MlaWorkspace& workspace, ThreadPool& pool);

 private:
  // Some tokens of a sequence, expanded to the workspace's pages from `page` on.
  struct Piece {
    int32_t seq = 0;
    int32_t first = 0;
    int32_t count = 0;
    int32_t page = 0;
  };
  // What is expanded and attended to at a time.
  struct Round {
    std::vector<Piece> pieces;
    std::vector<int32_t> kv_len, page_table;
    PlanBuffers buffers;
    Plan plan;

    void add(size_t seq, int32_t first, int32_t count, int page_size);
  };
  // Where things lie in the workspace, in floats: pages of keys at 0, then these.
  struct Layout {
    int64_t v = 0;         // pages of values
    int64_t latents = 0;   // [kExpandTokens, R + Dr]
    int64_t up = 0;        // [kExpandTokens, H, Dn + Dv]
    int64_t lse = 0;       // [T, H]
    int64_t part_lse = 0;  // [T, H] of a further round
    int64_t part = 0;      // [T, H, Dv]
    int64_t total = 0;
  };

  MlaExpanded(const AttentionDesc& latent, const AttentionDesc& expanded, const Backend& backend,
              const PlanLimits& limits, int64_t max_kv_tokens);
  Expected<Round*> next_round(const AttentionBatch& batch);
  void finish(Round& round, const AttentionBatch& batch, bool causal);
  void expand(const Round& round, const MlaInputs& inputs, const kernels::PagedKv& pages,
              const MlaWorkspace& workspace, ThreadPool& pool) const;
  void merge(const MlaInputs& inputs, const MlaWorkspace& workspace, ThreadPool& pool) const;
  kernels::PagedKv pages(const MlaWorkspace& workspace) const;
  int64_t up_stride() const;

  const AttentionDesc& latent_;
  const AttentionDesc& expanded_;
  const Backend& backend_;
  PlanLimits limits_;
  int64_t max_kv_tokens_;
  int64_t capacity_tokens_;
  Layout layout_;
  AttentionBatch batch_;  // as planned, over the latents
  std::vector<std::unique_ptr<Round>> rounds_;
  size_t num_rounds_ = 0;
};

}  // namespace bifocal::attention
