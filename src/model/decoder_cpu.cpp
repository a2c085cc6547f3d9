#include "model/decoder_cpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/elementwise.h"
#include "model/workspace.h"

namespace bifocal::model {

namespace cpu = kernels::cpu;

DecoderCpu::DecoderCpu(ModelSpec spec, DecoderWeights weights, const DecoderOptions& options)
    : spec_(std::move(spec)),
      weights_(std::move(weights)),
      classes_(model::attention_classes(spec_, options.kv_dtype, options.page_size)),
      pool_(options.pool) {
  BIFOCAL_CHECK(pool_ != nullptr);
  BIFOCAL_CHECK_EQ(weights_.layers.size(), spec_.layers.size());
}

uint64_t DecoderCpu::workspace_bytes(int max_tokens, int max_logit_rows) const {
  return model::workspace_bytes(spec_, weights_.output_matrix().dtype(), max_tokens, max_logit_rows);
}

Status DecoderCpu::prepare(int max_tokens, int max_logit_rows) {
  const int64_t max_rows = std::max(max_tokens, max_logit_rows);
  const RowWidths w = row_widths(spec_);
  BIFOCAL_ASSIGN_OR_RETURN(residual_, Tensor::allocate(DType::f32, {max_rows, w.hidden}));
  BIFOCAL_ASSIGN_OR_RETURN(normed_, Tensor::allocate(DType::f32, {max_rows, w.hidden}));
  BIFOCAL_ASSIGN_OR_RETURN(wide_, Tensor::allocate(DType::f32, {max_rows, w.wide}));
  BIFOCAL_ASSIGN_OR_RETURN(narrow_, Tensor::allocate(DType::f32, {max_rows, w.narrow}));
  const uint64_t scratch_bytes = gemm_scratch_bytes(spec_, weights_.output_matrix().dtype(), max_rows);
  BIFOCAL_ASSIGN_OR_RETURN(scratch_, Tensor::allocate(DType::u8, {static_cast<int64_t>(scratch_bytes)}));
  max_tokens_ = max_tokens;
  return {};
}

Status DecoderCpu::check(const StepRows& rows, const kv::KvCache& cache) const {
  const size_t num_tokens = rows.token_ids.size();
  if (num_tokens > static_cast<size_t>(max_tokens_) || rows.positions.size() != num_tokens ||
      rows.kv_slots.size() != num_tokens || rows.logit_rows.size() > num_tokens) {
    return internal_error(fmt::format(
        "step of {} tokens, {} positions, {} slots, {} logit rows; prepared for {} tokens", num_tokens,
        rows.positions.size(), rows.kv_slots.size(), rows.logit_rows.size(), max_tokens_));
  }
  const int64_t num_slots = int64_t{cache.num_pages()} * cache.page_size();
  for (size_t t = 0; t < num_tokens; ++t) {
    if (rows.token_ids[t] < 0 || rows.token_ids[t] >= spec_.vocab_size) {
      return internal_error(
          fmt::format("row {}: token id {}, vocabulary {}", t, rows.token_ids[t], spec_.vocab_size));
    }
    if (rows.positions[t] < 0 || rows.kv_slots[t] < 0 || rows.kv_slots[t] >= num_slots) {
      return internal_error(fmt::format("row {}: position {}, slot {} of {}", t, rows.positions[t],
                                        rows.kv_slots[t], num_slots));
    }
  }
  for (const int32_t row : rows.logit_rows) {
    if (row < 0 || static_cast<size_t>(row) >= num_tokens) {
      return internal_error(fmt::format("logits of row {} of {}", row, num_tokens));
    }
  }
  return {};
}

Status DecoderCpu::forward(const StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                           float* logits) {
  BIFOCAL_RETURN_IF_ERROR(check(rows, cache));
  Rows step;
  step.count = static_cast<int64_t>(rows.token_ids.size());
  step.residual = residual_.view().as<float>();
  step.normed = normed_.view().as<float>();
  step.attn_out = narrow_.view().as<float>();
  embed(rows, step.residual);
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    BIFOCAL_RETURN_IF_ERROR(attend(i, rows, step, planner, cache));
    if (i + 1 == spec_.layers.size()) {
      // After the last layer's keys and values are written, the other rows have no reader.
      const AttentionSpec& attention = spec_.layers[i].attention;
      step = pick(step, rows.logit_rows, int64_t{attention.num_heads} * attention.head_dim);
    }
    project_attention(i, step);
    mlp(i, step);
  }
  if (step.count == 0) return {};
  norm(step.residual, weights_.final_norm, step.count, step.normed);
  multiply(step.normed, step.count, weights_.output_matrix(), {}, logits, false);
  return {};
}

void DecoderCpu::embed(const StepRows& rows, float* out) {
  const int64_t hidden = spec_.hidden_size;
  pool_->parallel_for(static_cast<int64_t>(rows.token_ids.size()), [&](int64_t t, int) {
    weights_.embedding.unpack_row(rows.token_ids[static_cast<size_t>(t)], out + t * hidden);
  });
}

Status DecoderCpu::attend(size_t layer, const StepRows& rows, const Rows& step, attention::Planner& planner,
                          kv::KvCache& cache) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t stride = spec.qkv_rows();
  float* q = wide_.view().as<float>();  // [T, H D | HK D | HK D]
  float* k = q + int64_t{spec.num_heads} * spec.head_dim;
  float* v = k + int64_t{spec.num_kv_heads} * spec.head_dim;

  norm(step.residual, weights.attention_norm, step.count, step.normed);
  multiply(step.normed, step.count, weights.qkv, weights.qkv_bias, q, false);
  if (spec.qk_norm) {
    norm_heads(q, stride, spec.num_heads, weights.q_norm, step.count);
    norm_heads(k, stride, spec.num_kv_heads, weights.k_norm, step.count);
  }
  cpu::RopeArgs rope;
  rope.x = q;
  rope.x_stride = stride;
  rope.num_heads = spec.num_heads + spec.num_kv_heads;  // k's heads follow q's
  rope.head_dim = spec.head_dim;
  rope.rotary_dim = spec_.rope.rotary_dim;
  rope.style = spec_.rope.style;
  rope.inv_freq = spec_.rope.inv_freq;
  rope.attention_factor = spec_.rope.attention_factor;
  rope.positions = rows.positions.data();
  rope.num_tokens = step.count;
  cpu::rope(rope, *pool_);

  attention::LayerInputs inputs;
  inputs.q = q;
  inputs.q_stride = stride;
  inputs.kv = cache.layer(layer);
  inputs.out = step.attn_out;
  inputs.out_stride = int64_t{spec.num_heads} * spec.head_dim;
  cpu::write_kv(k, stride, v, stride, rows.kv_slots.data(), step.count, inputs.kv, *pool_);
  return planner.run(classes_.of_layer[layer], inputs, *pool_);
}

void DecoderCpu::project_attention(size_t layer, const Rows& step) {
  const LayerWeights& weights = weights_.layers[layer];
  multiply(step.attn_out, step.count, weights.attn_output, weights.attn_output_bias, step.residual, true);
}

void DecoderCpu::mlp(size_t layer, const Rows& step) {
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t inner = spec_.layers[layer].mlp.intermediate_size;
  float* gate_up = wide_.view().as<float>();
  float* activated = narrow_.view().as<float>();
  norm(step.residual, weights.mlp_norm, step.count, step.normed);
  multiply(step.normed, step.count, weights.gate_up, weights.gate_up_bias, gate_up, false);
  cpu::silu_mul(gate_up, 2 * inner, step.count, inner, activated, inner, *pool_);
  multiply(activated, step.count, weights.down, weights.down_bias, step.residual, true);
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

void DecoderCpu::norm(const float* x, const Tensor& weight, int64_t num_rows, float* y) {
  const int64_t hidden = spec_.hidden_size;
  cpu::rms_norm(x, hidden, weight.view().as<float>(), spec_.norm_eps, num_rows, hidden, y, hidden, *pool_);
}

void DecoderCpu::norm_heads(float* heads, int64_t token_stride, int num_heads, const Tensor& weight,
                            int64_t num_tokens) {
  // rms_norm takes rows at one stride: either the heads of a token or one head of all tokens, whichever is
  // fewer calls.
  const int64_t dim = weight.view().num_elements();
  const auto* w = weight.view().as<float>();
  if (num_tokens <= num_heads) {
    for (int64_t t = 0; t < num_tokens; ++t) {
      float* x = heads + t * token_stride;
      cpu::rms_norm(x, dim, w, spec_.norm_eps, num_heads, dim, x, dim, *pool_);
    }
    return;
  }
  for (int64_t h = 0; h < num_heads; ++h) {
    float* x = heads + h * dim;
    cpu::rms_norm(x, token_stride, w, spec_.norm_eps, num_tokens, dim, x, token_stride, *pool_);
  }
}

void DecoderCpu::multiply(const float* a, int64_t num_rows, const cpu::PackedMatrix& w, const Tensor& bias,
                          float* c, bool accumulate) {
  if (num_rows == 0) return;
  cpu::GemmArgs args;
  args.a = a;
  args.lda = w.k();
  args.m = num_rows;
  args.w = &w;
  args.bias = bias.empty() ? nullptr : bias.view().as<float>();
  args.c = c;
  args.ldc = w.n();
  args.accumulate = accumulate;
  cpu::gemm(args, scratch_.view().data, *pool_);
}

}  // namespace bifocal::model
