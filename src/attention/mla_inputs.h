// What a layer hands to multi-head latent attention, whatever its form. H heads of Dn dims without position
// and Dr with, values of Dv, latents of R.
#pragma once

#include <span>

#include "kernels/cpu/gemm.h"
#include "kernels/paged_kv.h"
#include "tensor/tensor.h"

namespace bifocal::attention {

// The projections between a head and the latent c: k_nope = UK c and v = UV c (DeepSeek-V2, arXiv 2405.04434,
// equations 10 and 11).
struct MlaProjections {
  const kernels::cpu::PackedMatrix* expand = nullptr;    // [H (Dn + Dv), R]: UK and UV of a head, of the next
  std::span<const kernels::cpu::PackedMatrix> absorb{};  // [H] of [R, Dn]: UK transposed
  std::span<const kernels::cpu::PackedMatrix> output{};  // [H] of [Dv, R]: UV
};

struct MlaInputs {
  const float* q = nullptr;  // [T, H, Dn + Dr], the rotated dims last; token stride q_stride
  int64_t q_stride = 0;
  kernels::PagedKv kv;  // one KV head of R + Dr: the normed latent, then the rotated key of all heads
  MlaProjections projections;
  float* out = nullptr;  // [T, H, Dv], token stride out_stride
  int64_t out_stride = 0;
};

// Memory of whichever form runs.
struct MlaWorkspace {
  float* floats = nullptr;
  void* gemm_scratch = nullptr;
};

}  // namespace bifocal::attention
