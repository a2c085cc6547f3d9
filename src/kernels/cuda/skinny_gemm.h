// Matrix products of few rows: what is read is the weights, once, and what limits it is memory.
//
// Weights play the part of the tall operand (D' = W x'): a CTA streams tiles of 64 weight rows
// through a ring in shared memory and multiplies them by all rows of x with wgmma. One CTA per SM; together
// they cut the whole of W into equal runs of pieces, so that a tile may end in one CTA and begin in another:
// both leave their part, and the last to arrive adds the parts in order of K. Where runs are cut depends on
// N, K and the number of SMs, never on M: a row's result has the same bits whatever rows stand beside it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

struct LinearArgs;
struct GatedLinearArgs;

constexpr int kSkinnyMaxM = 64;

// Whether run_skinny serves the shape: 1 <= M <= 64, N a multiple of 8, K of 64.
bool skinny_serves(int m, int n, int k);
// The same for the gated form, with I a multiple of 8.
bool skinny_serves_gated(int m, int inner, int k);

int64_t skinny_workspace_bytes(int num_sms);

// workspace: skinny_workspace_bytes(), zero before its first use; kernels that share it must follow one
// another.
Status run_skinny(const LinearArgs& args, void* workspace, int num_sms, const LaunchOptions& launch);
Status run_skinny_gated(const GatedLinearArgs& args, void* workspace, int num_sms,
                        const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
