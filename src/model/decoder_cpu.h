// A dense decoder on the CPU: activations in f32 throughout, weights in f32, f16 or bf16.
#pragma once

#include <memory>

#include "model/decoder_weights.h"
#include "model/model.h"

namespace bifocal::model {

struct DecoderOptions {
  DType kv_dtype = DType::f32;
  int page_size = 64;                // tokens
  std::shared_ptr<ThreadPool> pool;  // not null
};

class DecoderCpu final : public CpuModel {
 public:
  // `weights` were loaded for `spec`.
  DecoderCpu(ModelSpec spec, DecoderWeights weights, const DecoderOptions& options);

  const ModelSpec& spec() const override { return spec_; }
  std::span<const attention::AttentionDesc> attention_classes() const override { return classes_.descs; }
  Status prepare(int max_tokens, int max_logit_rows) override;
  uint64_t weight_bytes() const override { return weights_.num_bytes; }
  uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const override;
  // Errors: internal_error when the rows exceed what was prepared, or an id, position or slot is out of
  // range; the attention backends' errors.
  Status forward(const StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                 float* logits) override;

 private:
  // A step in flight: which buffers hold what.
  struct Rows {
    int64_t count = 0;
    float* residual = nullptr;  // [count, hidden]
    float* normed = nullptr;    // [count, hidden]
    float* attn_out = nullptr;  // [count, H Dv]
  };
  void embed(const StepRows& rows, float* out);
  Status attend(size_t layer, const StepRows& rows, const Rows& step, attention::Planner& planner,
                kv::KvCache& cache);
  void project_attention(size_t layer, const Rows& step);
  void feed_forward(size_t layer, const Rows& step);
  // Keeps only the rows whose logits are wanted.
  Rows pick(const Rows& step, std::span<const int32_t> wanted, int64_t attn_width);
  void norm(const Rows& step, const Tensor& weight);  // residual to normed

  ModelSpec spec_;
  DecoderWeights weights_;
  AttentionClasses classes_;
  std::shared_ptr<ThreadPool> pool_;
  RowOps ops_;
  int max_tokens_ = 0;
  Tensor residual_, normed_, wide_, narrow_;
  MoeBuffers moe_;
};

}  // namespace bifocal::model
