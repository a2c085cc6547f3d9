#include "attention/span_backend.h"

#include <fmt/format.h>

#include "attention/span_run.h"
#include "attention/work.h"
#include "kernels/cpu/isa.h"

namespace bifocal::attention {
namespace {

using kernels::cpu::AttentionKernels;
using kernels::cpu::SpanKernel;
using kernels::cpu::SpanKernels;

// What differs from backend to backend.
struct SpanBackendSpec {
  std::string_view name;
  std::string_view summary;
  SpanKernels AttentionKernels::*kernels;
  SpanKernels AttentionKernels::*single_kernels;  // for one query head on each KV head
  int key_cost;                                   // see TileShape
  int unit_cost;
};

// The costs were measured on 2026-11-22 (two cores of a Xeon of the Sapphire Rapids generation, AVX-512, f32,
// heads of 128) with `bifocal bench attention`, in the time that one row's product with one key takes when
// rows are many: 4.2 ns for `tiled` and `unified`, 5.8 ns for `streaming` (--heads 32 --kv-heads 8
// --query-len 2048
// --kv-len 2048). key_cost is what a key of a single row takes beyond that (--heads 8 --kv-heads 8 --batch 8
// --query-len 1 --kv-len 8192: 135, 98 and 80 ns), unit_cost where the line through --batch 64 --kv-len
// 16,64,256 meets no keys at all (0.4, 0.6 and 0.2 us for each KV head).
constexpr SpanBackendSpec kTiled = {"tiled",
                                    "packs blocks of keys and multiplies register tiles; for many query rows",
                                    &AttentionKernels::tiled,
                                    &AttentionKernels::tiled,
                                    31,
                                    100};
constexpr SpanBackendSpec kStreaming = {"streaming",
                                        "reads each key and value once, in place; for few query rows",
                                        &AttentionKernels::streaming,
                                        &AttentionKernels::streaming_single,
                                        13,
                                        40};
constexpr SpanBackendSpec kUnified = {"unified",
                                      "one kernel for all phases, with the same bits in each",
                                      &AttentionKernels::unified,
                                      &AttentionKernels::unified,
                                      22,
                                      150};

class SpanBackend final : public Backend {
 public:
  explicit SpanBackend(const SpanBackendSpec& spec) : spec_(spec) {
    capabilities_.name = spec.name;
    capabilities_.summary = spec.summary;
    capabilities_.phases = {Phase::prefill, Phase::decode, Phase::verify};
    capabilities_.head_dim_multiple = 8;
    capabilities_.kv_dtypes = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3};
    capabilities_.window = capabilities_.sinks = capabilities_.softcap = capabilities_.mla = true;
    capabilities_.shared_prefix = capabilities_.lse_out = capabilities_.deterministic = true;
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  Expected<PlanBuffers> make_buffers(const AttentionDesc& desc, const PlanLimits& limits) const override {
    const ScratchLayout layout(kernel(desc), desc);
    PlanBuffers buffers;
    BIFOCAL_RETURN_IF_ERROR(
        allocate_span_buffers(desc, limits, tile_shape(desc), layout.state_floats(), layout.total, &buffers));
    return buffers;
  }

  Plan plan(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) const override {
    Plan plan;
    plan.backend = this;
    plan.desc = &desc;
    plan.batch = batch;
    plan.buffers = &buffers;
    plan_spans(desc, batch, tile_shape(desc), buffers, &plan);
    return plan;
  }

  Status run(const Plan& plan, const AttentionDesc& desc, uint64_t step, const LayerInputs& inputs,
             ThreadPool& pool) const override {
    BIFOCAL_RETURN_IF_ERROR(check_plan(plan, desc, step, inputs, pool));
    const RunSpan span(plan);
    run_spans(kernels::cpu::attention_kernels(kernels::cpu::current_isa()), kernel(desc), plan, inputs, pool);
    return {};
  }

 private:
  const SpanKernel& kernel(const AttentionDesc& desc) const {
    const AttentionKernels& kernels = kernels::cpu::attention_kernels(kernels::cpu::current_isa());
    const bool single = desc.num_heads == desc.num_kv_heads;
    return (kernels.*(single ? spec_.single_kernels : spec_.kernels))
        .of[kernels::cpu::kv_element(desc.kv_dtype)];
  }
  TileShape tile_shape(const AttentionDesc& desc) const {
    return {kernel(desc).limits, spec_.key_cost, spec_.unit_cost};
  }

  const SpanBackendSpec& spec_;
  Capabilities capabilities_;
};

}  // namespace

const Backend& tiled_backend() {
  static const SpanBackend backend(kTiled);
  return backend;
}

const Backend& streaming_backend() {
  static const SpanBackend backend(kStreaming);
  return backend;
}

const Backend& unified_backend() {
  static const SpanBackend backend(kUnified);
  return backend;
}

}  // namespace bifocal::attention
