#include "model/row_ops.h"

#include "base/trace.h"
#include "kernels/cpu/elementwise.h"

namespace bifocal::model {

namespace cpu = kernels::cpu;

Status RowOps::reserve(uint64_t scratch_bytes) {
  BIFOCAL_ASSIGN_OR_RETURN(scratch_, Tensor::allocate(DType::u8, {static_cast<int64_t>(scratch_bytes)}));
  return {};
}

void RowOps::norm(const float* x, int64_t x_stride, const Tensor& weight, float eps, int64_t num_rows,
                  float* y, int64_t y_stride) const {
  const trace::Span span(trace::Kind::rowwise, "norm", {num_rows});
  cpu::rms_norm(x, x_stride, weight.view().as<float>(), eps, num_rows, weight.view().num_elements(), y,
                y_stride, *pool_);
}

void RowOps::norm_heads(float* heads, int64_t token_stride, int num_heads, const Tensor& weight, float eps,
                        int64_t num_tokens) const {
  // rms_norm takes rows at one stride: either the heads of a token or one head of all tokens, whichever is
  // fewer calls.
  const trace::Span span(trace::Kind::rowwise, "norm_heads", {num_tokens});
  const int64_t dim = weight.view().num_elements();
  const auto* w = weight.view().as<float>();
  if (num_tokens <= num_heads) {
    for (int64_t t = 0; t < num_tokens; ++t) {
      float* x = heads + t * token_stride;
      cpu::rms_norm(x, dim, w, eps, num_heads, dim, x, dim, *pool_);
    }
    return;
  }
  for (int64_t h = 0; h < num_heads; ++h) {
    float* x = heads + h * dim;
    cpu::rms_norm(x, token_stride, w, eps, num_tokens, dim, x, token_stride, *pool_);
  }
}

cpu::GemmArgs RowOps::product(const float* a, int64_t lda, int64_t num_rows, const cpu::PackedMatrix& w,
                              const Tensor& bias, float* c, int64_t ldc, bool accumulate) {
  cpu::GemmArgs args;
  args.a = a;
  args.lda = lda;
  args.m = num_rows;
  args.w = &w;
  args.bias = bias.empty() ? nullptr : bias.view().as<float>();
  args.c = c;
  args.ldc = ldc;
  args.accumulate = accumulate;
  return args;
}

void RowOps::rotate(const RopeSpec& rope, float* x, int64_t token_stride, int num_heads, int head_dim,
                    std::span<const int32_t> positions) const {
  cpu::RopeArgs args;
  args.x = x;
  args.x_stride = token_stride;
  args.num_heads = num_heads;
  args.head_dim = head_dim;
  args.rotary_dim = rope.rotary_dim;
  args.style = rope.style;
  args.inv_freq = rope.inv_freq;
  args.attention_factor = rope.attention_factor;
  args.positions = positions.data();
  args.num_tokens = static_cast<int64_t>(positions.size());
  cpu::rope(args, *pool_);
}

void RowOps::multiply(const float* a, int64_t lda, int64_t num_rows, const cpu::PackedMatrix& w,
                      const Tensor& bias, float* c, int64_t ldc, bool accumulate) const {
  if (num_rows == 0) return;
  cpu::gemm(product(a, lda, num_rows, w, bias, c, ldc, accumulate), scratch_.view().data, *pool_);
}

void RowOps::multiply_grouped(std::span<const cpu::GemmArgs> products) const {
  cpu::gemm_grouped(products, scratch_.view().data, *pool_);
}

}  // namespace bifocal::model
