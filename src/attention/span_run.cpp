#include "attention/span_run.h"

#include <algorithm>
#include <atomic>

namespace bifocal::attention {
namespace {

using kernels::cpu::AttentionKernels;
using kernels::cpu::AttentionState;
using kernels::cpu::padded_head_dim;
using kernels::cpu::SpanKernel;

constexpr int64_t kFloatsPerAddress = 2;
static_assert(sizeof(const float*) <= kFloatsPerAddress * sizeof(float));

int64_t round_to_line(int64_t floats) {
  return (floats + 15) / 16 * 16;
}

AttentionState from_row(const AttentionState& state, int64_t row, int head_dim_v) {
  return {state.max + row, state.sum + row, state.acc + row * padded_head_dim(head_dim_v)};
}

void copy_rows(const AttentionState& from, const AttentionState& to, int num_rows, int head_dim_v) {
  std::copy_n(from.max, num_rows, to.max);
  std::copy_n(from.sum, num_rows, to.sum);
  std::copy_n(from.acc, int64_t{num_rows} * padded_head_dim(head_dim_v), to.acc);
}

// Everything that one run shares between its threads.
struct Run {
  const AttentionKernels& kernels;
  const SpanKernel& kernel;
  const Plan& plan;
  const AttentionDesc& desc;
  const LayerInputs& inputs;
  ScratchLayout layout;
  int group;

  const SequencePlan& sequence(int32_t seq) const {
    return plan.buffers->sequences.view().as<const SequencePlan>()[seq];
  }
  const int32_t* members() const { return plan.buffers->members.view().as<const int32_t>(); }

  // fn(sequence, its first row, its rows per KV head) for all whose rows the unit holds.
  template <class Fn>
  void for_sequences(const WorkItem& item, Fn fn) const {
    if (item.num_members == 0) return fn(item.seq, item.row_begin, item.num_rows);
    for (int i = 0; i < item.num_members; ++i) {
      const int32_t seq = members()[item.seq + i];
      fn(seq, 0, plan.batch.q_len[static_cast<size_t>(seq)] * group);
    }
  }

  // Where the sequence's rows for a KV head wait between its shared spans and its own.
  AttentionState shared_state(int32_t seq, int kv_head) const {
    const TensorView& shared = plan.buffers->shared.view();
    const AttentionState all = kernels::cpu::make_attention_state(
        shared.as<float>(), static_cast<int>(shared.shape[0]), desc.head_dim_v);
    const int rows = plan.batch.q_len[static_cast<size_t>(seq)] * group;
    return from_row(all, sequence(seq).shared_row + int64_t{kv_head} * rows, desc.head_dim_v);
  }
  AttentionState slot_state(int64_t slot) const {
    const TensorView& partials = plan.buffers->partials.view();
    return kernels::cpu::make_attention_state(partials.as<float>() + slot * partials.strides[0],
                                              kernel.limits.max_rows, desc.head_dim_v);
  }

  // Packs the unit's queries and notes which keys each row sees.
  void load_rows(const WorkItem& item, float* scratch, int32_t* key_begin, int32_t* key_end) const {
    const auto** rows = reinterpret_cast<const float**>(scratch + layout.rows);
    int row = 0;
    for (int h = 0; h < item.num_kv_heads; ++h) {
      for_sequences(item, [&](int32_t seq, int first, int count) {
        const auto s = static_cast<size_t>(seq);
        for (int r = first; r < first + count; ++r, ++row) {
          const int token = r / group;
          const int head = (item.kv_head + h) * group + r % group;
          rows[row] =
              inputs.q + (plan.batch.q_begin[s] + token) * inputs.q_stride + int64_t{head} * desc.head_dim_k;
          const VisibleKeys keys = visible_keys(desc, plan.batch, s, token);
          key_begin[row] = keys.begin;
          key_end[row] = item.num_members > 0 ? item.span_end * kSpanKeys : keys.end;
        }
      });
    }
    constexpr float kLog2E = 1.44269504088896341F;
    kernels::cpu::QueryTile tile;
    tile.rows = rows;
    tile.num_heads = item.num_kv_heads;
    tile.num_rows = item.num_rows;
    tile.head_dim = desc.head_dim_k;
    tile.scale = desc.softcap != 0 ? desc.scale / desc.softcap : desc.scale * kLog2E;
    kernel.pack_queries(tile, scratch);
  }

  kernels::cpu::KvView view_of(const WorkItem& item) const {
    const int32_t seq = item.num_members > 0 ? members()[item.seq] : item.seq;
    return kernels::cpu::kv_view(inputs.kv, item.kv_head,
                                 plan.batch.page_table.data() + seq * plan.batch.page_table_stride);
  }

  // All spans of the unit have been folded: its rows go out, or wait for the sequences' own spans.
  void store_rows(const WorkItem& item, const AttentionState& state) const {
    int64_t row = 0;
    for (int h = 0; h < item.num_kv_heads; ++h) {
      for_sequences(item, [&](int32_t seq, int first, int count) {
        const AttentionState from = from_row(state, row, desc.head_dim_v);
        row += count;
        if (item.num_members > 0) {
          copy_rows(from, shared_state(seq, item.kv_head + h), count, desc.head_dim_v);
          return;
        }
        const int64_t token = plan.batch.q_begin[static_cast<size_t>(seq)];
        const int64_t head = int64_t{item.kv_head + h} * group;
        kernels::cpu::FinishArgs args;
        args.state = from;
        args.num_rows = count;
        args.row_begin = first;
        args.group = group;
        args.head_dim_v = desc.head_dim_v;
        args.sinks = desc.sinks ? inputs.sinks + head : nullptr;
        args.out = inputs.out + token * inputs.out_stride + head * desc.head_dim_v;
        args.out_stride = inputs.out_stride;
        args.lse = inputs.lse != nullptr ? inputs.lse + token * desc.num_heads + head : nullptr;
        args.lse_stride = desc.num_heads;
        kernels.finish(args);
      });
    }
  }

  bool follows_shared_spans(const WorkItem& item) const {
    return item.num_members == 0 && sequence(item.seq).shared_spans > 0;
  }

  void fold(const WorkItem& item, const AttentionState& state, const AttentionState& part) const {
    kernels.fold(state, part, item.num_kv_heads * item.num_rows, desc.head_dim_v);
  }

  // Folds a split unit's spans in index order, if this item was the last of its unit to finish.
  void complete_split(const WorkItem& item) const {
    SplitUnit& split = plan.buffers->splits.view().as<SplitUnit>()[item.split];
    std::atomic_ref<int32_t> done(split.done);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 != split.num_items) return;
    done.store(0, std::memory_order_relaxed);  // for the next layer
    const bool follows = follows_shared_spans(item);
    const AttentionState state =
        follows ? shared_state(item.seq, item.kv_head) : slot_state(split.first_slot);
    for (int i = follows ? 0 : 1; i < split.num_spans; ++i) {
      fold(item, state, slot_state(split.first_slot + i));
    }
    store_rows(item, state);
  }

  void run_item(const WorkItem& item, float* scratch) const {
    auto* key_begin = reinterpret_cast<int32_t*>(scratch + layout.bounds);
    int32_t* key_end = key_begin + kernel.limits.max_rows;
    load_rows(item, scratch, key_begin, key_end);

    kernels::cpu::SpanArgs args;
    args.kv = view_of(item);
    args.head_dim_k = desc.head_dim_k;
    args.head_dim_v = desc.head_dim_v;
    args.num_heads = item.num_kv_heads;
    args.num_rows = item.num_rows;
    args.q = scratch;
    args.key_begin = key_begin;
    args.key_end = key_end;
    args.fetch_end = std::min(item.span_end * kSpanKeys, key_end[item.num_rows - 1]);
    args.softcap = desc.softcap * 1.44269504088896341F;
    args.scratch = scratch + layout.kernel_scratch;

    const auto local_state = [&](int64_t offset) {
      return kernels::cpu::make_attention_state(scratch + offset, kernel.limits.max_rows, desc.head_dim_v);
    };
    const auto run_span = [&](int span, const AttentionState& state) {
      args.span_begin = span * kSpanKeys;
      args.span_end = args.span_begin + kSpanKeys;
      args.state = state;
      kernel.span(args);
    };
    if (item.split >= 0) {
      const SplitUnit& split = plan.buffers->splits.view().as<const SplitUnit>()[item.split];
      for (int span = item.span_begin; span < item.span_end; ++span) {
        run_span(span, slot_state(split.first_slot + span - split.first_span));
      }
      complete_split(item);
      return;
    }
    AttentionState state = local_state(layout.state);
    const AttentionState part = local_state(layout.part);
    int span = item.span_begin;
    if (follows_shared_spans(item)) {
      state = shared_state(item.seq, item.kv_head);
    } else {
      run_span(span++, state);  // leaves the state of no keys if there are none
    }
    for (; span < item.span_end; ++span) {
      run_span(span, part);
      fold(item, state, part);
    }
    store_rows(item, state);
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

}  // namespace

ScratchLayout::ScratchLayout(const SpanKernel& kernel, const AttentionDesc& desc)
    : rows(round_to_line(kernel.query_floats(desc.head_dim_k))),
      state(rows + round_to_line(kernel.limits.max_rows * kFloatsPerAddress)),
      part(state +
           round_to_line(kernels::cpu::attention_state_floats(kernel.limits.max_rows, desc.head_dim_v))),
      bounds(part + (part - state)),
      kernel_scratch(bounds + round_to_line(2 * kernel.limits.max_rows)),
      total(kernel_scratch + round_to_line(kernel.scratch_floats(desc.head_dim_k, desc.head_dim_v))) {}

void run_spans(const AttentionKernels& kernels, const SpanKernel& kernel, const Plan& plan,
               const LayerInputs& inputs, ThreadPool& pool) {
  const AttentionDesc& desc = *plan.desc;
  const Run run{
      kernels, kernel, plan, desc, inputs, ScratchLayout(kernel, desc), desc.num_heads / desc.num_kv_heads};
  const int64_t shared = plan.num_shared_parts;
  if (shared > 0) {
    pool.parallel_for(shared, [&](int64_t part, int thread) { run.run_part(part, thread); });
  }
  pool.parallel_for(plan.num_parts - shared,
                    [&](int64_t part, int thread) { run.run_part(shared + part, thread); });
}

}  // namespace bifocal::attention
