#include "attention/cuda_planner.h"

#include <algorithm>
#include <numeric>

#include "attention/cuda_backends.h"
#include "base/check.h"
#include "kernels/cuda/elementwise.h"

namespace bifocal::attention {

namespace cuda = kernels::cuda;

namespace {

constexpr Phase kStepOrder[] = {Phase::prefill, Phase::verify, Phase::decode};

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
  const auto serves = [&](const Backend& which, Phase phase) {
    return router_.decide(class_index, phase).backend == &which;
  };
  // One more where two ranges of sequences have another backend's between them.
  const auto rounds = [&](const Backend& which, int count, int per_round) {
    const bool split = serves(which, Phase::prefill) && serves(which, Phase::decode);
    return (count + per_round - 1) / per_round + (split && !serves(which, Phase::verify) ? 1 : 0);
  };
  const auto serves_any = [&](const Backend& which) {
    return serves(which, Phase::prefill) || serves(which, Phase::verify) || serves(which, Phase::decode);
  };
  if (const Backend& decode = decode_mma_backend(); serves_any(decode)) {
    const bool only_decode = !serves(decode, Phase::prefill) && !serves(decode, Phase::verify);
    const int max_rows = only_decode ? limits.max_seqs : std::max(limits.max_seqs, limits.max_tokens);
    const int round_rows = std::min(cuda::kMaxDecodeSeqs, max_rows);
    BIFOCAL_ASSIGN_OR_RETURN(
        slot.decode_buffers,
        cuda::make_decode_buffers(slot.decode_desc, {round_rows, limits.max_kv_len,
                                                     rounds(decode, max_rows, cuda::kMaxDecodeSeqs)}));
  }
  if (const Backend& prefill = prefill_ws_backend(); serves_any(prefill)) {
    const int round_seqs = std::min(cuda::kMaxPrefillSeqs, limits.max_seqs);
    for (int i = 0; i < rounds(prefill, limits.max_seqs, cuda::kMaxPrefillSeqs); ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(
          auto buffers, cuda::make_prefill_buffers(slot.prefill_desc, {round_seqs, limits.max_tokens}));
      slot.prefill_buffers.push_back(std::move(buffers));
    }
  }
  return {};
}

Status CudaPlanner::plan(const CudaBatch& batch, const cuda::LaunchOptions& launch) {
  decode_only_ = std::accumulate(batch.num_seqs.begin(), batch.num_seqs.end(), 0) ==
                 batch.num_seqs[static_cast<size_t>(Phase::decode)];
  for (size_t c = 0; c < slots_.size(); ++c) {
    Slot& slot = slots_[c];
    slot.decode_plans.clear();
    slot.prefill_plans.clear();
    slot.decode_rows_only = true;
    Range range;
    for (const Phase phase : kStepOrder) {
      const auto p = static_cast<size_t>(phase);
      if (batch.num_seqs[p] == 0) continue;
      const Backend* backend = router_.decide(c, phase).backend;
      const bool row_by_row = backend == &decode_mma_backend() && phase != Phase::decode;
      if (row_by_row && batch.row_kv_len == nullptr) {
        return unsupported(
            "decode_mma takes prompts row by row, and this batch doesn't give its rows; "
            "prefill_ws takes whole sequences");
      }
      if (backend != range.backend) {
        BIFOCAL_RETURN_IF_ERROR(plan_range(slot, range, batch, launch));
        range = {backend, range.seq_end, range.seq_end, range.row_end, range.row_end};
      }
      range.seq_end += batch.num_seqs[p];
      range.row_end += batch.num_rows[p];
      if (row_by_row) slot.decode_rows_only = false;
    }
    BIFOCAL_RETURN_IF_ERROR(plan_range(slot, range, batch, launch));
  }
  return {};
}

Status CudaPlanner::plan_range(Slot& slot, const Range& range, const CudaBatch& batch,
                               const cuda::LaunchOptions& launch) {
  if (range.backend == &decode_mma_backend()) {
    const bool by_row = batch.row_kv_len != nullptr;
    const int end = by_row ? range.row_end : range.seq_end;
    for (int at = by_row ? range.row_begin : range.seq_begin; at < end; at += cuda::kMaxDecodeSeqs) {
      cuda::DecodeBatch part;
      part.num_seqs = std::min(cuda::kMaxDecodeSeqs, end - at);
      part.page_table = batch.page_table;
      part.page_table_stride = batch.page_table_stride;
      if (by_row) {
        part.kv_len = batch.row_kv_len + at;
        part.first_row = at;
        part.table_row = batch.row_seq + at;
      } else {
        part.kv_len = batch.kv_len + at;
        part.q_begin = batch.q_begin + at;
        part.page_table += at * batch.page_table_stride;
      }
      part.round = static_cast<int>(slot.decode_plans.size());
      BIFOCAL_ASSIGN_OR_RETURN(const auto plan,
                               cuda::plan_decode(slot.decode_desc, part, *slot.decode_buffers, launch));
      slot.decode_plans.push_back(plan);
    }
  } else if (range.backend == &prefill_ws_backend()) {
    for (int seq = range.seq_begin; seq < range.seq_end; seq += cuda::kMaxPrefillSeqs) {
      BIFOCAL_CHECK_LT(slot.prefill_plans.size(), slot.prefill_buffers.size());
      const cuda::PrefillBatch part{std::min(cuda::kMaxPrefillSeqs, range.seq_end - seq),
                                    batch.q_begin + seq,
                                    batch.q_len + seq,
                                    batch.kv_len + seq,
                                    batch.page_table + seq * batch.page_table_stride,
                                    batch.page_table_stride};
      BIFOCAL_ASSIGN_OR_RETURN(const auto plan,
                               cuda::plan_prefill(slot.prefill_desc, part,
                                                  slot.prefill_buffers[slot.prefill_plans.size()], launch));
      slot.prefill_plans.push_back(plan);
    }
  } else {
    BIFOCAL_CHECK(range.backend == nullptr);  // the range before the first
  }
  return {};
}

bool CudaPlanner::rotates(size_t class_index, const cuda::RopeKv& rotation) const {
  const Slot& slot = slots_.at(class_index);
  return decode_only_ && slot.prefill_plans.empty() && cuda::decode_rotates(slot.decode_desc, rotation);
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
  auto decode = kernel_layer<cuda::DecodeLayer>(desc, inputs);
  decode.rotation = inputs.rotation;
  cuda::LaunchOptions decode_launch = launch;
  decode_launch.early = launch.early && slot.decode_rows_only;
  for (const cuda::DecodePlan& plan : slot.decode_plans) {
    BIFOCAL_RETURN_IF_ERROR(cuda::run_decode(plan, decode, decode_launch));
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
    if (const auto& b = slot.decode_buffers) {
      bytes += b->parts.bytes() + b->seqs.bytes() + b->partials.bytes();
    }
    for (const auto& b : slot.prefill_buffers) bytes += b.records.bytes() + b.queue.bytes();
  }
  return bytes;
}

}  // namespace bifocal::attention
