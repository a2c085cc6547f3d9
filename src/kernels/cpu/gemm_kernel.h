// How one instruction set multiplies with one weight type, and the panel order it wants. gemm.cpp packs
// weights, spreads blocks over threads and picks the kernel. Plain structs only: included by files with an
// instruction set's flags.
//
// W panels: [ceil(N / panel_columns)][K / k_group][panel_columns][k_group], K and N padded with zeros.
// A rows: blocks of row_block rows, the last one shorter, each packed by pack_rows in the order its kernel
// reads.
//
// One order over K for every M: a kernel cuts K into chunks of a fixed length, sums a chunk's products in
// index order and the chunks in order, from zero. The bias and the old C are added at the end: C = (C + bias)
// + sum.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cpu {

// C[m, n] (+)= A[m, k] * W[n, k]^T (+ bias): some packed rows times some panels. W is read once, the rows
// once per panel: they should fit the second-level cache.
struct GemmBlock {
  const void* rows = nullptr;    // packed, from the start of a row block
  const void* panels = nullptr;  // from the start of a panel
  int64_t m = 0;
  int64_t n = 0;                // columns to write: the last panel may be part full
  int64_t k = 0;                // padded
  const float* bias = nullptr;  // [n] or null
  float* c = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;
};

struct GemmKernel {
  int64_t panel_columns = 0;
  int64_t k_group = 0;     // neighbours in K side by side in a panel: 1, or 2 for bf16 pairs
  int64_t k_multiple = 0;  // K is padded to a multiple
  int64_t row_block = 0;
  int64_t row_value_bytes = 0;  // of a packed value of A
  int64_t max_rows = 0;         // of a GemmBlock: a multiple of row_block

  // One row block: rows <= row_block rows of A [rows, k], row stride lda, padded to k_padded.
  void (*pack_rows)(const float* a, int64_t lda, int64_t rows, int64_t k, int64_t k_padded,
                    void* out) = nullptr;
  void (*multiply)(const GemmBlock& block) = nullptr;
};

// The kernels of an instruction set by weight type.
struct GemmKernels {
  GemmKernel f32;
  GemmKernel f16;
  GemmKernel bf16;
};
extern const GemmKernels kGemmScalar;
extern const GemmKernels kGemmAvx2;
extern const GemmKernels kGemmAvx512;
extern const GemmKernel kGemmAvx512Bf16;  // bf16 weights: dot products of bf16 pairs
extern const GemmKernel kGemmAmx;         // bf16 weights: tile products

}  // namespace bifocal::kernels::cpu
