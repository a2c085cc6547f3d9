// A decoder as the engine sees it: token rows in, logits rows out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "attention/planner.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kv/kv_cache.h"
#include "model/spec.h"

namespace bifocal::model {

// The token rows of a step: T rows, sequences one after another.
struct StepRows {
  std::span<const int32_t> token_ids;   // [T]
  std::span<const int32_t> positions;   // [T]
  std::span<const int64_t> kv_slots;    // [T] page * page_size + token in page
  std::span<const int32_t> logit_rows;  // [R] rows whose logits are wanted
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelSpec& spec() const = 0;

  // Attention classes and which one each layer belongs to; page size and KV dtype filled in.
  virtual std::span<const attention::AttentionDesc> attention_classes() const = 0;

  // Reserves workspace for steps of up to max_tokens rows and max_logit_rows logits. Called once.
  virtual Status prepare(int max_tokens, int max_logit_rows) = 0;
  virtual uint64_t weight_bytes() const = 0;
  virtual uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const = 0;

  // logits: [R, vocab] f32. The planner was planned for this step.
  virtual Status forward(const StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                         float* logits) = 0;
};

}  // namespace bifocal::model
