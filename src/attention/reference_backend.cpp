#include "attention/reference_backend.h"

#include <algorithm>

#include "attention/span_plan.h"
#include "attention/work.h"
#include "base/check.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/reference.h"

namespace bifocal::attention {
namespace {

class ReferenceBackend final : public Backend {
 public:
  ReferenceBackend() {
    capabilities_.name = "reference";
    capabilities_.summary = "plain loops in double precision; what the others are checked against";
    capabilities_.phases = {Phase::prefill, Phase::decode, Phase::verify};
    capabilities_.head_dim_multiple = 1;
    capabilities_.kv_dtypes = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3};
    capabilities_.window = capabilities_.sinks = capabilities_.softcap = capabilities_.mla = true;
    capabilities_.lse_out = capabilities_.deterministic = true;
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  // A record is one query token; scratch holds a row's logits and accumulators in double.
  Expected<PlanBuffers> make_buffers(const AttentionDesc& desc, const PlanLimits& limits) const override {
    PlanBuffers buffers;
    buffers.limits = limits;
    BIFOCAL_ASSIGN_OR_RETURN(buffers.items, Tensor::allocate(DType::i32, {limits.max_tokens, 2}));
    BIFOCAL_ASSIGN_OR_RETURN(buffers.scratch,
                             Tensor::allocate(DType::i64, {std::max(1, limits.num_threads),
                                                           int64_t{limits.max_kv_len} + desc.head_dim_v}));
    return buffers;
  }

  Plan plan(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) const override {
    Plan plan;
    plan.backend = this;
    plan.desc = &desc;
    plan.batch = batch;
    plan.buffers = &buffers;
    auto* items = buffers.items.view().as<int32_t>();
    for (int seq = 0; seq < batch.num_seqs(); ++seq) {
      BIFOCAL_CHECK_LE(plan.num_items + batch.q_len[static_cast<size_t>(seq)], buffers.items.view().shape[0]);
      BIFOCAL_CHECK_LE(batch.kv_len[static_cast<size_t>(seq)], buffers.limits.max_kv_len);
      for (int token = 0; token < batch.q_len[static_cast<size_t>(seq)]; ++token) {
        items[2 * plan.num_items] = seq;
        items[2 * plan.num_items + 1] = token;
        ++plan.num_items;
      }
    }
    plan.num_parts = plan.num_items;
    return plan;
  }

  Status run(const Plan& plan, const AttentionDesc& desc, uint64_t step, const LayerInputs& inputs,
             ThreadPool& pool) const override {
    BIFOCAL_RETURN_IF_ERROR(check_plan(plan, desc, step, inputs, pool));
    const RunSpan span(plan);
    const auto* items = plan.buffers->items.view().as<const int32_t>();
    pool.parallel_for(plan.num_items, [&](int64_t item, int thread) {
      for (int head = 0; head < desc.num_heads; ++head) {
        run_row(plan, desc, inputs, items[2 * item], items[2 * item + 1], head, thread);
      }
    });
    return {};
  }

 private:
  static void run_row(const Plan& plan, const AttentionDesc& desc, const LayerInputs& inputs, int seq,
                      int token, int head, int thread) {
    const AttentionBatch& batch = plan.batch;
    const auto s = static_cast<size_t>(seq);
    const int kv_head = head / (desc.num_heads / desc.num_kv_heads);
    const int64_t row = batch.q_begin[s] + token;
    const VisibleKeys keys = visible_keys(desc, batch, s, token);
    const TensorView& scratch = plan.buffers->scratch.view();

    kernels::cpu::ReferenceRowArgs args;
    args.kv =
        kernels::cpu::kv_view(inputs.kv, kv_head, batch.page_table.data() + seq * batch.page_table_stride);
    args.head_dim_k = desc.head_dim_k;
    args.head_dim_v = desc.head_dim_v;
    args.q = inputs.q + row * inputs.q_stride + int64_t{head} * desc.head_dim_k;
    args.key_begin = keys.begin;
    args.key_end = keys.end;
    args.scale = static_cast<double>(desc.scale);
    args.softcap = static_cast<double>(desc.softcap);
    args.sink = desc.sinks ? inputs.sinks + head : nullptr;
    args.out = inputs.out + row * inputs.out_stride + int64_t{head} * desc.head_dim_v;
    args.lse = inputs.lse != nullptr ? inputs.lse + row * desc.num_heads + head : nullptr;
    args.scratch = scratch.as<double>() + thread * scratch.strides[0];
    kernels::cpu::reference_attention_row(args);
  }

  Capabilities capabilities_;
};

}  // namespace

const Backend& reference_backend() {
  static const ReferenceBackend backend;
  return backend;
}

}  // namespace bifocal::attention
