#include "attention/cuda_planner.h"

#include <algorithm>

#include "attention/cuda_backends.h"
#include "base/check.h"

namespace bifocal::attention {

namespace cuda = kernels::cuda;

namespace {

constexpr Phase kStepOrder[] = {Phase::prefill, Phase::verify, Phase::decode};
constexpr int kRoundSeqs = std::min(cuda::kMaxDecodeSeqs, cuda::kMaxPrefillSeqs);

// What the descriptions of both kernels have in common.
template <class KernelDesc>
KernelDesc kernel_desc(const AttentionDesc& desc) {
  KernelDesc out;
  out.num_heads = desc.num_heads;
  out.num_kv_heads = desc.num_kv_heads;
  out.head_dim = desc.head_dim_k;
  out.page_size = desc.page_size;
  out.window = desc.window;
  out.softcap = desc.softcap;
  out.scale = desc.scale;
  return out;
}

// And their layers.
template <class KernelLayer>
KernelLayer kernel_layer(const AttentionDesc& desc, const CudaLayerInputs& inputs) {
  KernelLayer layer;
  layer.q = inputs.q;
  layer.q_stride = int64_t{desc.num_heads} * desc.head_dim_k;
  layer.kv = inputs.kv;
  layer.first_page = inputs.first_page;
  layer.out = inputs.out;
  layer.out_stride = layer.q_stride;
  layer.sinks = inputs.sinks;
  return layer;
}

}  // namespace

Expected<std::unique_ptr<CudaPlanner>> CudaPlanner::create(const Router& router,
                                                           std::span<const AttentionDesc> classes,
                                                           const PlanLimits& limits) {
  BIFOCAL_CHECK_EQ(router.num_classes(), classes.size());
  std::unique_ptr<CudaPlanner> planner(new CudaPlanner(router, classes));
  planner->slots_.resize(classes.size());
  for (size_t c = 0; c < classes.size(); ++c) BIFOCAL_RETURN_IF_ERROR(planner->make_slot(c, limits));
  return planner;
}

Status CudaPlanner::make_slot(size_t class_index, const PlanLimits& limits) {
  Slot& slot = slots_[class_index];
  const AttentionDesc& desc = classes_[class_index];
  slot.decode_desc = kernel_desc<cuda::DecodeDesc>(desc);
  slot.decode_desc.spans = cuda::default_span_rule(desc.num_kv_heads);
  slot.prefill_desc = kernel_desc<cuda::PrefillDesc>(desc);
  const auto backend = [&](Phase phase) { return router_.decide(class_index, phase).backend; };
  const auto serves = [&](const Backend& which, Phase phase) { return backend(phase) == &which; };
  const auto rounds = [&](const Backend& which) {
    // Every row of a step may be one that is verified.
    int max_seqs = limits.max_seqs + (serves(which, Phase::verify) ? limits.max_tokens : 0);
    if (!serves(which, Phase::prefill) && !serves(which, Phase::decode) && !serves(which, Phase::verify)) {
      max_seqs = 0;
    }
    return (max_seqs + kRoundSeqs - 1) / kRoundSeqs;
  };
  const int round_seqs = std::min(kRoundSeqs, limits.max_seqs + limits.max_tokens);
  for (int i = 0; i < rounds(decode_mma_backend()); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(auto buffers,
                             cuda::make_decode_buffers(slot.decode_desc, {round_seqs, limits.max_kv_len}));
    slot.decode_buffers.push_back(std::move(buffers));
  }
  // It can have both neighbours of another backend's verify.
  const int extra = serves(prefill_ws_backend(), Phase::verify) ? 0 : 1;
  for (int i = 0; i < rounds(prefill_ws_backend()) + extra; ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(auto buffers,
                             cuda::make_prefill_buffers(slot.prefill_desc, {round_seqs, limits.max_tokens}));
    slot.prefill_buffers.push_back(std::move(buffers));
  }
  return {};
}

Status CudaPlanner::plan(const CudaBatch& batch, const cuda::LaunchOptions& launch) {
  for (size_t c = 0; c < slots_.size(); ++c) {
    Slot& slot = slots_[c];
    slot.decode_plans.clear();
    slot.prefill_plans.clear();
    int begin = 0;
    int end = 0;
    const Backend* backend = nullptr;  // of the sequences [begin, end)
    for (const Phase phase : kStepOrder) {
      const int count = batch.num_seqs[static_cast<size_t>(phase)];
      if (count == 0) continue;
      const Backend* next = router_.decide(c, phase).backend;
      if (next != backend) {
        BIFOCAL_RETURN_IF_ERROR(plan_range(slot, backend, batch, begin, end, launch));
        begin = end;
        backend = next;
      }
      end += count;
    }
    BIFOCAL_RETURN_IF_ERROR(plan_range(slot, backend, batch, begin, end, launch));
  }
  return {};
}

Status CudaPlanner::plan_range(Slot& slot, const Backend* backend, const CudaBatch& batch, int begin, int end,
                               const cuda::LaunchOptions& launch) {
  for (; begin < end; begin += kRoundSeqs) {
    const int num_seqs = std::min(kRoundSeqs, end - begin);
    const int32_t* pages = batch.page_table + begin * batch.page_table_stride;
    if (backend == &decode_mma_backend()) {
      BIFOCAL_CHECK_LT(slot.decode_plans.size(), slot.decode_buffers.size());
      const cuda::DecodeBatch part{num_seqs, batch.kv_len + begin, batch.q_begin + begin, pages,
                                   batch.page_table_stride};
      BIFOCAL_ASSIGN_OR_RETURN(
          auto plan,
          cuda::plan_decode(slot.decode_desc, part, slot.decode_buffers[slot.decode_plans.size()], launch));
      slot.decode_plans.push_back(plan);
    } else {
      BIFOCAL_CHECK(backend == &prefill_ws_backend());
      BIFOCAL_CHECK_LT(slot.prefill_plans.size(), slot.prefill_buffers.size());
      const cuda::PrefillBatch part{
          num_seqs, batch.q_begin + begin,  batch.q_len + begin, batch.kv_len + begin,
          pages,    batch.page_table_stride};
      BIFOCAL_ASSIGN_OR_RETURN(auto plan,
                               cuda::plan_prefill(slot.prefill_desc, part,
                                                  slot.prefill_buffers[slot.prefill_plans.size()], launch));
      slot.prefill_plans.push_back(plan);
    }
  }
  return {};
}

Status CudaPlanner::run(size_t class_index, const CudaLayerInputs& inputs,
                        const cuda::LaunchOptions& launch) {
  const Slot& slot = slots_.at(class_index);
  const AttentionDesc& desc = classes_[class_index];
  auto prefill = kernel_layer<cuda::PrefillLayer>(desc, inputs);
  prefill.num_tokens = inputs.num_tokens;
  for (const cuda::PrefillPlan& plan : slot.prefill_plans) {
    BIFOCAL_RETURN_IF_ERROR(cuda::run_prefill(plan, prefill, launch));
  }
  const auto decode = kernel_layer<cuda::DecodeLayer>(desc, inputs);
  for (const cuda::DecodePlan& plan : slot.decode_plans) {
    BIFOCAL_RETURN_IF_ERROR(cuda::run_decode(plan, decode, launch));
  }
  return {};
}

void CudaPlanner::count(const std::array<int, kNumPhases>& rows) {
  for (Slot& slot : slots_) {
    for (size_t p = 0; p < kNumPhases; ++p) {
      if (rows[p] == 0) continue;
      ++slot.counters[p].steps;
      ++slot.counters[p].plans;
      slot.counters[p].rows += static_cast<uint64_t>(rows[p]);
    }
  }
}

uint64_t CudaPlanner::buffer_bytes() const {
  uint64_t bytes = 0;
  for (const Slot& slot : slots_) {
    for (const auto& b : slot.decode_buffers) {
      bytes += b.parts.bytes() + b.seqs.bytes() + b.partials.bytes();
    }
    for (const auto& b : slot.prefill_buffers) bytes += b.items.bytes() + b.queue.bytes();
  }
  return bytes;
}

}  // namespace bifocal::attention
