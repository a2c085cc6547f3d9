// Grouped-query attention of a layer up to its output projection: q, k, v, optional norms of their heads,
// RoPE, the cache, and the attention backends.
#pragma once

#include "model/model.h"
#include "model/row_ops.h"
#include "model/weight_list.h"
#include "model/weight_loader.h"

namespace bifocal::model {

struct GqaWeights {
  kernels::cpu::PackedMatrix qkv;  // [(H + 2 HK) D, hidden], the projections' rows one after another
  Tensor qkv_bias;                 // [(H + 2 HK) D] or empty
  Tensor q_norm, k_norm;           // [D] or empty
  Tensor sinks;                    // [H] or empty
};

void list_gqa_weights(const ModelSpec& spec, size_t layer, WeightList& list);
Expected<GqaWeights> load_gqa_weights(const ModelSpec& spec, size_t layer, WeightLoader& loader);

// Where a step's attention of one layer reads and writes.
struct AttendArgs {
  const StepRows* rows = nullptr;
  const float* x = nullptr;  // [T, hidden] normed
  float* wide = nullptr;     // [T, row_widths().wide] working memory
  float* out = nullptr;      // [T, H Dv]
  size_t layer = 0;
  size_t attention_class = 0;
  attention::Planner* planner = nullptr;
  kv::KvCache* cache = nullptr;
};
Status attend_gqa(const ModelSpec& spec, const GqaWeights& weights, const AttendArgs& args,
                  const RowOps& ops);

}  // namespace bifocal::model
