// Matrix products with packed weights: C[M,N] = A[M,K] * W[N,K]^T (+ bias). A and C are f32; W is f32, f16 or
// bf16. A row's result depends on its own values alone: K is summed in one order whatever M is, so row i of a
// batch has the same bits as row i alone. The instruction set is chosen once per process (kernels/cpu/isa.h).
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace bifocal::kernels::cpu {

struct GemmKernel;  // gemm_kernel.h

// W in the panel order that the kernels read; made once at load. Move-only.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Concatenates the matrices along N (all [N_i, K], same K, any strides; f32, f16 or bf16) and converts to
  // `dtype`.
  static Expected<PackedMatrix> pack(std::span<const TensorView> matrices, DType dtype, ThreadPool& pool);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t k_padded() const { return k_padded_; }
  DType dtype() const { return dtype_; }
  size_t num_bytes() const { return memory_.num_bytes(); }
  const void* data() const { return memory_.data(); }
  const GemmKernel* kernel() const { return kernel_; }  // the one that reads this panel order
  // Row n of W as f32 [K]: embedding look-up from a tied output matrix.
  void unpack_row(int64_t n, float* out) const;

 private:
  int64_t n_ = 0;
  int64_t k_ = 0;
  int64_t k_padded_ = 0;
  DType dtype_ = DType::f32;
  const GemmKernel* kernel_ = nullptr;
  HostMemory memory_;
};

struct GemmArgs {
  const float* a = nullptr;  // [M, K], row stride lda
  int64_t lda = 0;
  int64_t m = 0;
  const PackedMatrix* w = nullptr;
  const float* bias = nullptr;  // [N] or null
  float* c = nullptr;           // [M, N], row stride ldc; must not overlap A
  int64_t ldc = 0;
  bool accumulate = false;  // C += instead of C =  (the residual)
};

// Scratch that gemm needs for m rows of k values (A converted or packed); 64-byte aligned memory of the
// caller's.
size_t gemm_scratch_bytes(int64_t m, int64_t k, DType weight_dtype);
size_t gemm_scratch_bytes(int64_t m, int64_t k);  // for weights of any dtype
void gemm(const GemmArgs& args, void* scratch, ThreadPool& pool);

// Independent products with weights of one dtype, in one hand-over to the pool: experts of a layer, heads of
// a projection. To the bit what gemm gives for each. Scratch: gemm_scratch_bytes of the sum of their rows,
// with the largest k. No C may overlap another's A or C.
void gemm_grouped(std::span<const GemmArgs> products, void* scratch, ThreadPool& pool);

// The slow obvious reference: double accumulation in index order, from unpacked W.
void gemm_reference(const float* a, int64_t m, const TensorView& w, const float* bias, float* c);

}  // namespace bifocal::kernels::cpu
