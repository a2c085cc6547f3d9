#include "model/decoder_cpu.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/trace.h"
#include "model/step_check.h"
#include "model/workspace.h"

namespace bifocal::model {

namespace cpu = kernels::cpu;

DecoderCpu::DecoderCpu(ModelSpec spec, DecoderWeights weights, const DecoderOptions& options)
    : spec_(std::move(spec)),
      weights_(std::move(weights)),
      classes_(model::attention_classes(spec_, options.kv_dtype, options.page_size)),
      pool_(options.pool),
      ops_(*pool_) {
  BIFOCAL_CHECK_EQ(weights_.layers.size(), spec_.layers.size());
}

uint64_t DecoderCpu::workspace_bytes(int max_tokens, int max_logit_rows) const {
  return model::workspace_bytes(spec_, weights_.output_matrix().dtype(), max_tokens, max_logit_rows);
}

Status DecoderCpu::prepare(int max_tokens, int max_logit_rows) {
  const int64_t max_rows = workspace_rows(spec_, max_tokens, max_logit_rows);
  const RowWidths w = row_widths(spec_);
  BIFOCAL_ASSIGN_OR_RETURN(residual_, Tensor::allocate(DType::f32, {max_rows, w.hidden}));
  BIFOCAL_ASSIGN_OR_RETURN(normed_, Tensor::allocate(DType::f32, {max_rows, w.hidden}));
  BIFOCAL_ASSIGN_OR_RETURN(wide_, Tensor::allocate(DType::f32, {max_rows, w.wide}));
  BIFOCAL_ASSIGN_OR_RETURN(narrow_, Tensor::allocate(DType::f32, {max_rows, w.narrow}));
  BIFOCAL_RETURN_IF_ERROR(
      ops_.reserve(gemm_scratch_bytes(spec_, weights_.output_matrix().dtype(), max_rows)));
  BIFOCAL_RETURN_IF_ERROR(moe_.reserve(spec_, max_rows));
  max_tokens_ = max_tokens;
  return {};
}

Status DecoderCpu::forward(const StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                           float* logits) {
  const auto num_slots = [&](kv::PageKind kind) {
    return int64_t{cache.num_pages(kind)} * cache.page_size();
  };
  BIFOCAL_RETURN_IF_ERROR(check_step(rows, spec_.vocab_size, max_tokens_, num_slots(kv::PageKind::full),
                                     num_slots(kv::PageKind::window)));
  Rows step;
  step.count = static_cast<int64_t>(rows.token_ids.size());
  step.residual = residual_.view().as<float>();
  step.normed = normed_.view().as<float>();
  step.attn_out = narrow_.view().as<float>();
  embed(rows, step.residual);
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const trace::Span span(trace::Kind::layer, "layer", {static_cast<int64_t>(i)});
    BIFOCAL_RETURN_IF_ERROR(attend(i, rows, step, planner, cache));
    if (i + 1 == spec_.layers.size()) {
      // After the last layer's keys and values are written, the other rows have no reader.
      step = pick(step, rows.logit_rows, spec_.layers[i].attention_out_dim());
    }
    project_attention(i, step);
    feed_forward(i, step);
  }
  if (step.count == 0) return {};
  norm(step, weights_.final_norm);
  ops_.multiply(step.normed, spec_.hidden_size, step.count, weights_.output_matrix(), {}, logits,
                spec_.vocab_size);
  return {};
}

void DecoderCpu::embed(const StepRows& rows, float* out) {
  const trace::Span span(trace::Kind::rowwise, "embed", {static_cast<int64_t>(rows.token_ids.size())});
  const int64_t hidden = spec_.hidden_size;
  pool_->parallel_for(static_cast<int64_t>(rows.token_ids.size()), [&](int64_t t, int) {
    weights_.embedding.unpack_row(rows.token_ids[static_cast<size_t>(t)], out + t * hidden);
  });
}

Status DecoderCpu::attend(size_t layer, const StepRows& rows, const Rows& step, attention::Planner& planner,
                          kv::KvCache& cache) {
  const LayerWeights& weights = weights_.layers[layer];
  norm(step, weights.attention_norm);
  AttendArgs args;
  args.rows = &rows;
  args.x = step.normed;
  args.wide = wide_.view().as<float>();
  args.out = step.attn_out;
  args.layer = layer;
  args.attention_class = classes_.of_layer[layer];
  args.planner = &planner;
  args.cache = &cache;
  if (spec_.layers[layer].mla) return attend_mla(spec_, weights.mla, args, ops_);
  return attend_gqa(spec_, weights.gqa, args, ops_);
}

void DecoderCpu::project_attention(size_t layer, const Rows& step) {
  const LayerWeights& weights = weights_.layers[layer];
  ops_.multiply(step.attn_out, spec_.layers[layer].attention_out_dim(), step.count, weights.attn_output,
                weights.attn_output_bias, step.residual, spec_.hidden_size, true);
}

void DecoderCpu::feed_forward(size_t layer, const Rows& step) {
  const LayerWeights& weights = weights_.layers[layer];
  norm(step, weights.mlp_norm);
  MlpArgs args;
  args.x = step.normed;
  args.num_rows = step.count;
  args.wide = wide_.view().as<float>();
  args.narrow = narrow_.view().as<float>();
  args.residual = step.residual;
  if (spec_.layers[layer].moe) {
    moe(*spec_.layers[layer].moe, weights.moe, args, ops_, moe_);
  } else {
    mlp(weights.mlp, args, ops_);
  }
}

DecoderCpu::Rows DecoderCpu::pick(const Rows& step, std::span<const int32_t> wanted, int64_t attn_width) {
  const int64_t hidden = spec_.hidden_size;
  Rows picked;
  picked.count = static_cast<int64_t>(wanted.size());
  picked.residual = step.normed;  // free until the next norm
  picked.normed = step.residual;
  picked.attn_out = wide_.view().as<float>();  // q, k and v are used up
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int64_t from = wanted[i];
    const auto to = static_cast<int64_t>(i);
    std::memcpy(picked.residual + to * hidden, step.residual + from * hidden,
                static_cast<size_t>(hidden) * sizeof(float));
    std::memcpy(picked.attn_out + to * attn_width, step.attn_out + from * attn_width,
                static_cast<size_t>(attn_width) * sizeof(float));
  }
  return picked;
}

void DecoderCpu::norm(const Rows& step, const Tensor& weight) {
  ops_.norm(step.residual, spec_.hidden_size, weight, spec_.norm_eps, step.count, step.normed,
            spec_.hidden_size);
}

}  // namespace bifocal::model
