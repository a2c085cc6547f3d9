// How much work a batch is, in the units of a machine's limits: for traces and benchmarks.
#pragma once

#include <cstdint>

#include "attention/backend.h"
#include "base/trace.h"

namespace bifocal::attention {

struct BatchWork {
  int64_t rows = 0;   // query tokens
  int64_t flops = 0;  // of both products, a multiply-add is two
  int64_t bytes = 0;  // keys and values that some query sees, each sequence's read once
};
BatchWork batch_work(const AttentionDesc& desc, const AttentionBatch& batch);

// What Backend::run shows in a trace, under the backend's name.
class RunSpan {
 public:
  explicit RunSpan(const Plan& plan) : span_(trace::Kind::attention, plan.backend->name()) {
    if (!span_.is_recorded()) return;
    const BatchWork work = batch_work(*plan.desc, plan.batch);
    span_.set_values({work.rows, plan.batch.num_seqs(), work.flops, work.bytes});
  }

 private:
  trace::Span span_;
};

}  // namespace bifocal::attention
