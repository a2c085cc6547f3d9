// The operations between a block's attention and its products, with the pool and the scratch that all blocks
// of a decoder share. All rows are f32; each is computed alone.
#pragma once

#include <span>

#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "model/spec.h"
#include "tensor/tensor.h"

namespace bifocal::model {

class RowOps {
 public:
  explicit RowOps(ThreadPool& pool) : pool_(&pool) {}

  ThreadPool& pool() const { return *pool_; }
  // For the products: gemm_scratch_bytes() of workspace.h.
  Status reserve(uint64_t scratch_bytes);

  // y[t] = RMSNorm(x[t]) * weight for num_rows rows of weight's length; y may be x.
  void norm(const float* x, int64_t x_stride, const Tensor& weight, float eps, int64_t num_rows, float* y,
            int64_t y_stride) const;
  // In place, each head of weight's length alone: heads [T, num_heads, D] at token_stride.
  void norm_heads(float* heads, int64_t token_stride, int num_heads, const Tensor& weight, float eps,
                  int64_t num_tokens) const;
  // Rotates the first rope.rotary_dim of head_dim values of each head in place: x [T, num_heads, head_dim] at
  // token_stride.
  void rotate(const RopeSpec& rope, float* x, int64_t token_stride, int num_heads, int head_dim,
              std::span<const int32_t> positions) const;
  // c[t] (+)= w a[t] + bias; an empty bias is none. Rows of a and c lie at lda and ldc.
  void multiply(const float* a, int64_t lda, int64_t num_rows, const kernels::cpu::PackedMatrix& w,
                const Tensor& bias, float* c, int64_t ldc, bool accumulate = false) const;
  // The same for many products at once: gemm_grouped.
  static kernels::cpu::GemmArgs product(const float* a, int64_t lda, int64_t num_rows,
                                        const kernels::cpu::PackedMatrix& w, const Tensor& bias, float* c,
                                        int64_t ldc, bool accumulate = false);
  void multiply_grouped(std::span<const kernels::cpu::GemmArgs> products) const;

 private:
  ThreadPool* pool_;
  Tensor scratch_;
};

}  // namespace bifocal::model
