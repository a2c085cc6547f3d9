#include "attention/span_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "attention/span_plan.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/isa.h"

namespace bifocal::attention {
namespace {

using kernels::cpu::AttentionKernels;
using kernels::cpu::AttentionState;
using kernels::cpu::SpanKernel;

int64_t round_to_line(int64_t floats) {
  return (floats + 15) / 16 * 16;
}

// Scratch of one thread, in floats: packed queries, the running state, a span's state, row bounds, the
// kernel's own.
struct ScratchLayout {
  ScratchLayout(const SpanKernel& kernel, const AttentionDesc& desc)
      : state(round_to_line(kernel.query_floats(desc.head_dim_k))),
        part(state + round_to_line(kernels::cpu::attention_state_floats(kernel.max_rows, desc.head_dim_v))),
        bounds(part + (part - state)),
        kernel_scratch(bounds + round_to_line(2 * kernel.max_rows)),
        total(kernel_scratch + round_to_line(kernel.scratch_floats(desc.head_dim_k, desc.head_dim_v))) {}
  int64_t state;
  int64_t part;
  int64_t bounds;
  int64_t kernel_scratch;
  int64_t total;
};

// Everything that one run() shares between its threads.
struct Run {
  const AttentionKernels& kernels;
  const SpanKernel& kernel;
  const Plan& plan;
  const AttentionDesc& desc;
  const LayerInputs& inputs;
  ScratchLayout layout;
  int group;

  // Writes the unit's rows, a KV head at a time.
  void finish_rows(const WorkItem& item, const AttentionState& state) const {
    const int64_t token = plan.batch.q_begin[static_cast<size_t>(item.seq)];
    for (int h = 0; h < item.num_kv_heads; ++h) {
      const int64_t row = int64_t{h} * item.num_rows;
      const int64_t head = int64_t{item.kv_head + h} * group;
      kernels::cpu::FinishArgs args;
      args.state = {state.max + row, state.sum + row,
                    state.acc + row * kernels::cpu::padded_head_dim(desc.head_dim_v)};
      args.num_rows = item.num_rows;
      args.row_begin = item.row_begin;
      args.group = group;
      args.head_dim_v = desc.head_dim_v;
      args.sinks = desc.sinks ? inputs.sinks + head : nullptr;
      args.out = inputs.out + token * inputs.out_stride + head * desc.head_dim_v;
      args.out_stride = inputs.out_stride;
      args.lse = inputs.lse != nullptr ? inputs.lse + token * desc.num_heads + head : nullptr;
      args.lse_stride = desc.num_heads;
      kernels.finish(args);
    }
  }

  AttentionState slot_state(int64_t slot) const {
    const TensorView& partials = plan.buffers->partials.view();
    return kernels::cpu::make_attention_state(partials.as<float>() + slot * partials.strides[0],
                                              kernel.max_rows, desc.head_dim_v);
  }

  // Folds a split unit's spans in index order, if this item was the last of its unit to finish.
  void complete_split(const WorkItem& item) const {
    SplitUnit& split = plan.buffers->splits.view().as<SplitUnit>()[item.split];
    std::atomic_ref<int32_t> done(split.done);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 != split.num_items) return;
    done.store(0, std::memory_order_relaxed);  // for the next layer
    const AttentionState state = slot_state(split.first_slot);
    for (int i = 1; i < split.num_spans; ++i) {
      kernels.fold(state, slot_state(split.first_slot + i), item.num_kv_heads * item.num_rows,
                   desc.head_dim_v);
    }
    finish_rows(item, state);
  }

  void run_item(const WorkItem& item, float* scratch) const {
    const auto seq = static_cast<size_t>(item.seq);
    const int q_len = plan.batch.q_len[seq];
    const int kv_len = plan.batch.kv_len[seq];
    auto* key_begin = reinterpret_cast<int32_t*>(scratch + layout.bounds);
    int32_t* key_end = key_begin + kernel.max_rows;
    for (int r = 0; r < item.num_kv_heads * item.num_rows; ++r) {
      const int token = (item.row_begin + r % item.num_rows) / group;
      const VisibleKeys keys = visible_keys(desc, q_len, kv_len, token);
      key_begin[r] = keys.begin;
      key_end[r] = keys.end;
    }

    constexpr float kLog2E = 1.44269504088896341F;
    kernels::cpu::QueryTile tile;
    tile.q = inputs.q + plan.batch.q_begin[seq] * inputs.q_stride +
             int64_t{item.kv_head} * group * desc.head_dim_k;
    tile.stride = inputs.q_stride;
    tile.group = group;
    tile.num_heads = item.num_kv_heads;
    tile.row_begin = item.row_begin;
    tile.num_rows = item.num_rows;
    tile.head_dim = desc.head_dim_k;
    tile.scale = desc.softcap != 0 ? desc.scale / desc.softcap : desc.scale * kLog2E;
    kernel.pack_queries(tile, scratch);

    kernels::cpu::SpanArgs args;
    args.kv = kernels::cpu::kv_view(inputs.kv, item.kv_head,
                                    plan.batch.page_table.data() + item.seq * plan.batch.page_table_stride);
    args.head_dim_k = desc.head_dim_k;
    args.head_dim_v = desc.head_dim_v;
    args.num_heads = item.num_kv_heads;
    args.num_rows = item.num_rows;
    args.q = scratch;
    args.key_begin = key_begin;
    args.key_end = key_end;
    args.fetch_end = std::min(item.span_end * kSpanKeys, key_end[item.num_rows - 1]);
    args.softcap = desc.softcap * kLog2E;
    args.scratch = scratch + layout.kernel_scratch;

    const auto local_state = [&](int64_t offset) {
      return kernels::cpu::make_attention_state(scratch + offset, kernel.max_rows, desc.head_dim_v);
    };
    const auto run_span = [&](int span, const AttentionState& state) {
      args.span_begin = span * kSpanKeys;
      args.span_end = args.span_begin + kSpanKeys;
      args.state = state;
      kernel.span[args.kv.element](args);
    };
    if (item.split >= 0) {
      const SplitUnit& split = plan.buffers->splits.view().as<const SplitUnit>()[item.split];
      for (int span = item.span_begin; span < item.span_end; ++span) {
        run_span(span, slot_state(split.first_slot + span - split.first_span));
      }
      complete_split(item);
      return;
    }
    const AttentionState state = local_state(layout.state);
    const AttentionState part = local_state(layout.part);
    run_span(item.span_begin, state);  // leaves the state of no keys if there are none
    for (int span = item.span_begin + 1; span < item.span_end; ++span) {
      run_span(span, part);
      kernels.fold(state, part, item.num_kv_heads * item.num_rows, desc.head_dim_v);
    }
    finish_rows(item, state);
  }

  void run_part(int64_t part, int thread) const {
    const TensorView& scratch = plan.buffers->scratch.view();
    const auto* parts = plan.buffers->parts.view().as<const int32_t>();
    const auto* items = plan.buffers->items.view().as<const WorkItem>();
    for (int32_t i = parts[part]; i < parts[part + 1]; ++i) {
      run_item(items[i], scratch.as<float>() + thread * scratch.strides[0]);
    }
  }
};

class SpanBackend final : public Backend {
 public:
  SpanBackend(Capabilities capabilities, SpanKernel AttentionKernels::*kernel)
      : capabilities_(std::move(capabilities)), kernel_(kernel) {}

  const Capabilities& capabilities() const override { return capabilities_; }

  Expected<PlanBuffers> make_buffers(const AttentionDesc& desc, const PlanLimits& limits) const override {
    const ScratchLayout layout(kernel(), desc);
    PlanBuffers buffers;
    BIFOCAL_RETURN_IF_ERROR(allocate_span_buffers(desc, limits, tile_shape(), layout.part - layout.state,
                                                  layout.total, &buffers));
    return buffers;
  }

  Plan plan(const AttentionDesc& desc, const AttentionBatch& batch, PlanBuffers& buffers) const override {
    Plan plan;
    plan.backend = this;
    plan.desc = &desc;
    plan.batch = batch;
    plan.buffers = &buffers;
    plan_spans(desc, batch, tile_shape(), buffers, &plan);
    return plan;
  }

  Status run(const Plan& plan, const AttentionDesc& desc, uint64_t step, const LayerInputs& inputs,
             ThreadPool& pool) const override {
    BIFOCAL_RETURN_IF_ERROR(check_plan(plan, desc, step, inputs, pool));
    const Run run{kernels::cpu::attention_kernels(kernels::cpu::current_isa()),
                  kernel(),
                  plan,
                  desc,
                  inputs,
                  ScratchLayout(kernel(), desc),
                  desc.num_heads / desc.num_kv_heads};
    pool.parallel_for(plan.num_parts, [&](int64_t part, int thread) { run.run_part(part, thread); });
    return {};
  }

 private:
  const SpanKernel& kernel() const {
    return kernels::cpu::attention_kernels(kernels::cpu::current_isa()).*kernel_;
  }

  TileShape tile_shape() const {
    TileShape shape;
    shape.max_rows_per_head = kernel().max_rows_per_head;
    shape.max_rows = kernel().max_rows;
    return shape;
  }

  Capabilities capabilities_;
  SpanKernel AttentionKernels::*kernel_;
};

Capabilities span_capabilities(std::string_view name, std::string_view summary) {
  Capabilities c;
  c.name = name;
  c.summary = summary;
  c.phases = {Phase::prefill, Phase::decode, Phase::verify};
  c.head_dim_multiple = 8;
  c.kv_dtypes = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3};
  c.window = c.sinks = c.softcap = c.mla = c.lse_out = c.deterministic = true;
  return c;
}

}  // namespace

const Backend& tiled_backend() {
  static const SpanBackend backend(
      span_capabilities("tiled", "packs blocks of keys and multiplies register tiles; for many query rows"),
      &AttentionKernels::tiled);
  return backend;
}

const Backend& streaming_backend() {
  static const SpanBackend backend(
      span_capabilities("streaming", "reads each key and value once, in place; for few query rows"),
      &AttentionKernels::streaming);
  return backend;
}

}  // namespace bifocal::attention
