// Runs a plan of spans: what the backends that are made of span kernels have in common.
#pragma once

#include "attention/span_plan.h"
#include "kernels/cpu/attention/attention.h"

namespace bifocal::attention {

// Scratch of one thread, in floats: packed queries, their addresses, the running state, a span's state, row
// bounds, the kernel's own.
struct ScratchLayout {
  ScratchLayout(const kernels::cpu::SpanKernel& kernel, const AttentionDesc& desc);
  int64_t rows;
  int64_t state;
  int64_t part;
  int64_t bounds;
  int64_t kernel_scratch;
  int64_t total;
  int64_t state_floats() const { return part - state; }
};

void run_spans(const kernels::cpu::AttentionKernels& kernels, const kernels::cpu::SpanKernel& kernel,
               const Plan& plan, const LayerInputs& inputs, ThreadPool& pool);

}  // namespace bifocal::attention
